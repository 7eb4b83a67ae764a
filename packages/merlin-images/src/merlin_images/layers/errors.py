"""Errors of layers: each names the file, wheel or layer at fault; nothing is left half made."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class LayerError(MerlinError):
    """Base of all layer errors."""

    code = "layer_error"
    kind = Kind.FAILED


class UnsafePath(LayerError):
    """A name that no layer may hold: absolute, climbing, a white-out, or not printable."""

    code = "layer_path_unsafe"
    kind = Kind.INVALID
    hint = "Rename the file, or leave it out of the model."


class DuplicatePath(LayerError):
    """Two entries of one layer have the same path, or one lies below a file."""

    code = "layer_path_duplicate"
    kind = Kind.INVALID


class SourceChanged(LayerError):
    """A file gave more or fewer bytes than its size."""

    code = "layer_source_changed"
    hint = "The file changed while it was read. Try again."


class LayerDamaged(LayerError):
    """A blob of the layer store is gone or is not what its record says."""

    code = "layer_damaged"
    hint = "The damaged layer was dropped and is made anew by the next build. Try again."


class LayerStoreFull(LayerError):
    """No space left for a layer."""

    code = "layer_store_full"
    kind = Kind.EXHAUSTED
    hint = "Free disk space for the layer store, then try again. Nothing was stored."


class UnsafeWheel(LayerError):
    """A wheel that is no wheel, contradicts itself, or would write where it must not.

    ``data`` holds ``wheel`` and, where one is at fault, ``member``.
    """

    code = "wheel_unsafe"
    kind = Kind.INVALID
    hint = "Pin another version of this package, or report the wheel to whoever published it."


class ByteCompilationFailed(LayerError):
    """The interpreter of the base image does not run on this machine, or died."""

    code = "byte_compilation_failed"
    hint = "Set images.byte_compile to false to build without byte code."
