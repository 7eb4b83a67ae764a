"""Which Debian package brings a shared library, for the libraries that wheels are found to lack.

Names are those of Debian 12; where Debian 13 renamed a package (``t64``), the old name is provided
by the new one.
"""

from __future__ import annotations

OF_GLIBC = frozenset(
    {
        *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libanl.so.1", "libc.so.6"),
        *("libdl.so.2", "libm.so.6", "libmvec.so.1", "libpthread.so.0", "libresolv.so.2"),
        *("librt.so.1", "libutil.so.1"),
    }
)
"""Part of every glibc."""

OF_COMPILERS = frozenset({"libgcc_s.so.1", "libstdc++.so.6"})
"""In every base that can run Python programs of more than one file: not worth reading a base."""

OF_DRIVERS = frozenset(
    {
        *("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"),
        *("libnvidia-fatbinaryloader.so", "libnvidia-ptxjitcompiler.so.1", "libOpenCL.so.1"),
        *("libamdhip64.so", "libhsa-runtime64.so.1"),
    }
)
"""Brought by the node that runs the container, with the driver of its devices."""

INSTEAD = {
    "opencv-python": "opencv-python-headless",
    "opencv-contrib-python": "opencv-contrib-python-headless",
    "psycopg2": "psycopg2-binary",
}
"""Packages that do the same without the libraries."""

_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libFLAC.so.12": "libflac12",
    "libGL.so.1": "libgl1",
    "libGLU.so.1": "libglu1-mesa",
    "libGLX.so.0": "libglx0",
    "libICE.so.6": "libice6",
    "libOpenGL.so.0": "libopengl0",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libXau.so.6": "libxau6",
    "libXcursor.so.1": "libxcursor1",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXinerama.so.1": "libxinerama1",
    "libXrandr.so.2": "libxrandr2",
    "libXrender.so.1": "libxrender1",
    "libaio.so.1": "libaio1",
    "libasound.so.2": "libasound2",
    "libatlas.so.3": "libatlas3-base",
    "libblas.so.3": "libblas3",
    "libbz2.so.1.0": "libbz2-1.0",
    "libcairo.so.2": "libcairo2",
    "libcom_err.so.2": "libcom-err2",
    "libcrypt.so.1": "libcrypt1",
    "libcrypto.so.3": "libssl3",
    "libcurl.so.4": "libcurl4",
    "libdbus-1.so.3": "libdbus-1-3",
    "libdrm.so.2": "libdrm2",
    "libexpat.so.1": "libexpat1",
    "libffi.so.8": "libffi8",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libgbm.so.1": "libgbm1",
    "libgdal.so.32": "libgdal32",
    "libgdk_pixbuf-2.0.so.0": "libgdk-pixbuf-2.0-0",
    "libgeos_c.so.1": "libgeos-c1v5",
    "libgfortran.so.5": "libgfortran5",
    "libgio-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgmp.so.10": "libgmp10",
    "libgobject-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libgsl.so.27": "libgsl27",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgtk-3.so.0": "libgtk-3-0",
    "libhdf5_serial.so.103": "libhdf5-103-1",
    "libibverbs.so.1": "libibverbs1",
    "libicuuc.so.72": "libicu72",
    "libjpeg.so.62": "libjpeg62-turbo",
    "libk5crypto.so.3": "libk5crypto3",
    "libkrb5.so.3": "libkrb5-3",
    "liblapack.so.3": "liblapack3",
    "libldap-2.5.so.0": "libldap-2.5-0",
    "liblz4.so.1": "liblz4-1",
    "liblzma.so.5": "liblzma5",
    "libmagic.so.1": "libmagic1",
    "libmariadb.so.3": "libmariadb3",
    "libmpi.so.40": "libopenmpi3",
    "libncurses.so.6": "libncurses6",
    "libncursesw.so.6": "libncursesw6",
    "libnsl.so.2": "libnsl2",
    "libnuma.so.1": "libnuma1",
    "libodbc.so.2": "libodbc2",
    "libodbcinst.so.2": "libodbcinst2",
    "libopenblas.so.0": "libopenblas0",
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libpangocairo-1.0.so.0": "libpangocairo-1.0-0",
    "libpcre2-8.so.0": "libpcre2-8-0",
    "libpng16.so.16": "libpng16-16",
    "libportaudio.so.2": "libportaudio2",
    "libpq.so.5": "libpq5",
    "libproj.so.25": "libproj25",
    "libpulse.so.0": "libpulse0",
    "libquadmath.so.0": "libquadmath0",
    "librdkafka.so.1": "librdkafka1",
    "libreadline.so.8": "libreadline8",
    "libsasl2.so.2": "libsasl2-2",
    "libsndfile.so.1": "libsndfile1",
    "libsqlite3.so.0": "libsqlite3-0",
    "libssl.so.3": "libssl3",
    "libtbb.so.12": "libtbb12",
    "libtiff.so.6": "libtiff6",
    "libtinfo.so.6": "libtinfo6",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libuuid.so.1": "libuuid1",
    "libxcb.so.1": "libxcb1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxml2.so.2": "libxml2",
    "libxslt.so.1": "libxslt1.1",
    "libz.so.1": "zlib1g",
    "libzmq.so.5": "libzmq5",
    "libzstd.so.1": "libzstd1",
}


def package_of(library: str) -> str:
    """Return the package that brings a library, or ``""`` if the table does not know."""
    return _PACKAGES.get(library, "")
