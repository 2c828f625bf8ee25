#!/bin/bash
# Reads text in pictures with a model compiled by Ingot.
#
#   ./demo.sh                       a few sentences, each rendered in another font
#   ./demo.sh "any text"            your own sentence, in several fonts
#   ./demo.sh --image line.png      your own picture of one line of text
#
# Installs what is missing, builds the compiler and the runtime, gets PP-OCRv4's recogniser and its dictionary, compiles
# the model into an archive with a free width, and prints picture -> text with the confidence.
set -euo pipefail
cd "$(dirname "$0")"
root=$PWD
work=$root/.cache/demo
usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }

pictures=()
text=
while [ $# -gt 0 ]; do
  case $1 in
    --image) [ $# -ge 2 ] || usage
      [ -r "$2" ] || { echo "demo: $2: no such picture" >&2; exit 1; }
      pictures+=("$(realpath "$2")"); shift 2 ;;
    -h|--help|--*) usage ;;
    *) [ -z "$text" ] || usage; text=$1; shift ;;
  esac
done

tools/setup.sh demo >/dev/null
build=$root/build
if [ ! -f "$build/build.ninja" ]; then
  echo "Configuring ..." >&2
  meson setup "$build" -Dexamples=true -Daotc=enabled >"$root/.cache/demo-setup.log" 2>&1 ||
    { tail -20 "$root/.cache/demo-setup.log" >&2; exit 1; }
else
  meson configure "$build" -Dexamples=true -Daotc=enabled >/dev/null
fi
echo "Building (some minutes the first time) ..." >&2
ninja -C "$build" -j "${JOBS:-$(nproc)}" --quiet aotc/aotc tools/ingot examples/ocr/ocr
mkdir -p "$work"

# Where other programs of the same name shadow it, ImageMagick's own is still in /usr/bin.
magick=/usr/bin/magick
[ -x "$magick" ] || magick=/usr/bin/convert
render() { # render FONT SIZE TEXT FILE: black on white, one line; the text is taken literally
  local text=$3
  text=${text//\\/\\\\}
  text=${text//%/%%}
  case $text in @*) text="\\$text" ;; esac
  "$magick" -background white -fill black -font "$1" -pointsize "$2" "label:$text" -bordercolor white \
    -border 8x5 "PNG24:$4"
}

if [ ${#pictures[@]} -eq 0 ]; then
  fonts=(DejaVu-Sans Liberation-Serif Lato-Regular FreeMono DejaVu-Serif-Bold)
  if [ -n "$text" ]; then sentences=("$text" "$text" "$text")
  else
    sentences=("The quick brown fox jumps over the lazy dog." "Compiled once, ahead of time: 12,345.67 kg"
               "It fits in 64 KiB, on any machine" "Is this monospaced? Yes!" "Mind the gap, please")
  fi
  rm -f "$work"/line-*.png
  for i in "${!sentences[@]}"; do
    picture=$work/line-$((i + 1))-${fonts[$i]}.png
    render "${fonts[$i]}" 34 "${sentences[$i]}" "$picture"
    pictures+=("$picture")
  done
fi

archive=$work/rec.ingot
model=$root/.cache/models/ch_PP-OCRv4_rec_infer.onnx
if [ ! -f "$archive" ] || [ "$build/aotc/aotc" -nt "$archive" ] || [ "$model" -nt "$archive" ]; then
  echo "Compiling the model ..." >&2
  "$build/aotc/aotc" "$model" -o "$archive" --input-shape=x=1x3x48x16..2048
fi
"$build/examples/ocr/ocr" "$archive" "$root/.cache/models/ppocr_keys_v1.txt" "${pictures[@]}"
echo
echo "pictures: ${pictures[0]%/*}"
echo "archive:  $archive ($(stat -c %s "$archive") bytes; try: $build/tools/ingot inspect $archive)"
echo "tools:    $build/aotc/aotc  $build/tools/ingot"
