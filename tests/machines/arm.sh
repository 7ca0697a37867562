#!/usr/bin/env bash
# The tests of what computes on an emulated 64-bit Arm processor, beside this machine's own results: make test-arm.
#
#     tests/machines/arm.sh PYTHON      the Python of an environment in which hvs_data runs on this machine
#
# Everything is made in build/arm, stage by stage; a stage that is there, made of the same parts, is not made again. Root is needed for
# nothing but installing the two Debian packages. Nothing is registered with the kernel (binfmt): the emulator is called by name.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

SUITE=bookworm
ABI=3.11  # the suite's Python
DEBS=python3,libgomp1,libstdc++6
TORCH=(torch==2.8.0 torchvision==0.23.0)  # the newest whose wheels for aarch64 come without CUDA
TORCH_NEEDS=(filelock typing-extensions sympy networkx jinja2 fsspec)
PACKAGES=(numpy pillow numba simplejpeg pytest pytest-timeout hypothesis scipy)
TESTS=(
  tests/hvs_data/drawing/test_philox.py tests/hvs_data/loaders/test_order.py tests/hvs_data/rows/test_boxes.py tests/hvs_data/rows/test_sampling.py
  tests/kernels/test_rows.py tests/kernels/render/test_canvas.py
  tests/kernels/render/numba/test_render.py tests/kernels/render/numba/test_store.py
  tests/kernels/render/numba/test_isolation.py
  tests/pipelines/test_decode.py tests/pipelines/test_decode_given.py tests/pipelines/test_scaled.py tests/pipelines/test_render.py
  tests/hvs_data/loaders/test_hard_view_loader.py
)
# Left out: statistics of 100,000 draws in Python, of rows that are compared bit for bit; gigabytes of views; the memory of a process that
# an emulator shares; guarded memory (test_memory.py), whose process compiles everything anew and has five minutes; two sizes of a
# photograph of 2000 x 1300, for the time that the reference takes.
LEFT_OUT='not torchvisions and not than_int32 and not takes_no_memory and not (strong_downscaling and (96 or 224))'

say() { echo "[arm $(date +%H:%M:%S)] $*"; }
fail() { echo "make test-arm: $*" >&2; exit 1; }

[ "$(uname -m)" != aarch64 ] || fail "this is such a processor itself; run: make test"
own=$(realpath --no-symlinks "${1:?the Python of an environment with hvs_data}")
arm=$PWD/build/arm

missing=()
for pair in qemu-aarch64-static:qemu-user-static debootstrap:debootstrap dpkg-deb:dpkg flock:util-linux; do
  command -v "${pair%%:*}" > /dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} = 0 ] || fail "needs ${missing[*]}; on Debian and Ubuntu, as root: apt-get install ${missing[*]}"

mkdir -p "$arm"
exec 9> "$arm/lock"
flock --nonblock 9 || fail "another run is at work in $arm; wait for it, or end it"

# stage NAME PARTS COMMAND...: fills the folder NAME by a command that is told where, unless it was made of the same parts before.
stage() {
  local name=$1 parts=$2
  shift 2
  [ "$(cat "$arm/$name/.made-of" 2> /dev/null)" != "$parts" ] || return 0
  say "making $name"
  rm -rf "${arm:?}/$name" "$arm/$name.part"
  mkdir "$arm/$name.part"
  "$@" "$arm/$name.part"
  echo "$parts" > "$arm/$name.part/.made-of"
  mv "$arm/$name.part" "$arm/$name"
}

download() {
  debootstrap --download-only --arch=arm64 --variant=minbase --include="$DEBS" "$SUITE" "$1" > "$arm/debootstrap.log" 2>&1 || {
    tail -5 "$arm/debootstrap.log" >&2
    fail "debootstrap could not download $SUITE for arm64 (all of it: $arm/debootstrap.log); on other systems than Debian it needs the package debian-archive-keyring"
  }
}

# Programs and libraries alone: of what is not there, the emulated programs see this machine's.
unpack() {
  local deb
  mkdir -p "$1"/usr/{bin,sbin,lib} "$1/proc"
  ln -s usr/bin usr/sbin usr/lib "$1"
  for deb in "$arm"/debs/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-owner --no-same-permissions --keep-directory-symlink -C "$1"
  done
  find "$1" -mindepth 1 -maxdepth 1 ! -name usr ! -name bin ! -name sbin ! -name lib ! -name proc -exec rm -rf {} +
  cpuinfo > "$1/proc/cpuinfo"
}

# As Linux describes NVIDIA's Grace (Neoverse V2). LLVM, which reads this, would find the other machine's processor and compile for
# none in particular; the emulator has all these instructions.
cpuinfo() {
  cat << 'CPU'
processor	: 0
BogoMIPS	: 2000.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh bti
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd4f
CPU revision	: 0

CPU
}

# torch apart, whose requirements pip would read for this machine's processor. The others in the versions that this machine has.
install() {
  local pip=("$own" -m pip install --quiet --no-compile --target "$1" --python-version "$ABI" --only-binary=:all:) tag
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux_2_17 manylinux2014; do pip+=(--platform "${tag}_aarch64"); done
  echo "$versions" > "$1.versions"
  "${pip[@]}" --no-deps "${TORCH[@]}"
  "${pip[@]}" --constraint "$1.versions" "${PACKAGES[@]}" "${TORCH_NEEDS[@]}"
  rm "$1.versions"
}

# Tests that start processes start sys.executable, which has to be the wrapper: the kernel cannot run the emulated Python itself.
wrap() {
  cat > "$1/sitecustomize.py" << 'PYTHON'
import os
import sys

sys.executable = os.environ["ARM_PYTHON"]
PYTHON
  ln -s "$PWD/hvs_data" "$1/hvs_data"
  cat > "$1/python" << SHELL
#!/bin/sh
export ARM_PYTHON='$arm/wrapper/python' PYTHONPATH='$arm/wrapper:$arm/packages'"\${PYTHONPATH:+:\$PYTHONPATH}"
unset PYTHONDONTWRITEBYTECODE  # compiling torch's sources takes the emulator half a minute
export PYTHONPYCACHEPREFIX='$arm/bytecode' NUMBA_CACHE_DIR="\${NUMBA_CACHE_DIR:-$arm/compiled}"
exec qemu-aarch64-static -cpu max -L '$arm/root' '$arm/root/usr/bin/python$ABI' "\$@"
SHELL
  chmod +x "$1/python"
}

versions=$("$own" -m pip list --format=freeze --exclude-editable 2> /dev/null | grep -v -i -E '^(torch|triton|nvidia)')
# A stage is made again when what it was made of changes, this script's own commands included.
parts() { echo "$SUITE $ABI $(for part in "$@"; do declare -f "$part" || echo "$part"; done | sha256sum)"; }
stage debs "$(parts download "$DEBS")" download
stage root "$(parts unpack cpuinfo "$(ls "$arm/debs/var/cache/apt/archives")")" unpack
stage packages "$(parts install "${TORCH[*]} ${PACKAGES[*]}" "$versions")" install
stage wrapper "$(parts wrap "$PWD")" wrap

failed=0
step() {
  say "$*"
  nice -n 10 "$@" || failed=1
}

step "$own" tests/machines/twin.py write "$arm/twin.pt"
step "$arm/wrapper/python" tests/machines/twin.py compare "$arm/twin.pt"
step "$arm/wrapper/python" -m pytest -p no:cacheprovider --hypothesis-profile=ci -o timeout=3600 --durations=10 -k "$LEFT_OUT" "${TESTS[@]}"
say "$([ $failed = 0 ] && echo done || echo FAILED)"
exit $failed
