"use strict";
const form = document.getElementById("form");
const body = document.getElementById("body");
const answer = document.getElementById("answer");
const state = document.getElementById("status");
const fields = [...form.querySelectorAll("input[data-name]")];

function valueOf(field) {
  if (field.dataset.type === "string") return field.value;
  try {
    return JSON.parse(field.value);
  } catch {
    return field.value;
  }
}

function fill() {
  const entries = fields.map((field) => [field.dataset.name, valueOf(field)]);
  const row = Object.fromEntries(entries);
  const whole = form.dataset.rows === "true" ? { instances: [row] } : row;
  body.value = JSON.stringify(whole, null, 2);
}

async function predict() {
  const started = performance.now();
  state.className = "quiet";
  state.textContent = "…";
  try {
    const response = await fetch(form.dataset.predict, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: body.value,
    });
    const text = await response.text();
    state.className = response.ok ? "good" : "bad";
    state.textContent = `${response.status} in ${Math.round(performance.now() - started)} ms`;
    try {
      answer.textContent = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      answer.textContent = text;
    }
  } catch (error) {
    state.className = "bad";
    state.textContent = "no answer";
    answer.textContent = String(error);
  }
  answer.hidden = false;
}

for (const field of fields) field.addEventListener("input", fill);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
body.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) predict();
});
