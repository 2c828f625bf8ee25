"""Draws the real inputs of the three models, with /usr/bin/python3 (Debian's scikit-image belongs to it):

    /usr/bin/python3 tests/models/real_inputs.py FOLDER

* face-*.npy: photographs that scikit-image ships, as BlazeFace takes them: f32[1,256,256,3] in -1..1;
* line-*.npy + .txt: sentences rendered by ImageMagick in several fonts, as the recogniser takes them:
  f32[1,3,48,W] in -1..1, W the next multiple of 8 (dynamic) or exactly 320 (fixed-*.npy).
"""
import pathlib
import subprocess
import sys

import numpy as np
import skimage.data
import skimage.io
import skimage.transform

SENTENCES = [
    ("DejaVu-Sans", 34, "The quick brown fox"),
    ("Liberation-Serif", 36, "jumps over the lazy dog"),
    ("Lato-Regular", 34, "Ahead of time: 12,345.67"),
    ("FreeMono", 34, "one archive, 3 models"),
    ("DejaVu-Serif-Bold", 30, "Mind the gap!"),
]


def face(image, name, folder):
    """The centre square, 256 x 256."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top:top + side, left:left + side, :3]
    small = skimage.transform.resize(square, (256, 256), anti_aliasing=True).astype(np.float32)  # 0..1
    np.save(folder / f"face-{name}.npy", (small * 2 - 1)[None])


def line(font, size, text, name, folder):
    picture = folder / f"{name}.png"
    magick = "/usr/bin/magick" if pathlib.Path("/usr/bin/magick").exists() else "/usr/bin/convert"
    subprocess.run([magick, "-background", "white", "-fill", "black", "-font", font, "-pointsize", str(size),
                    f"label:{text}", "-bordercolor", "white", "-border", "6x4", "-colorspace", "sRGB", "-type", "TrueColor",
                    f"PNG24:{picture}"], check=True)
    image = skimage.io.imread(picture)[..., :3]
    width = max(16, round(image.shape[1] * 48 / image.shape[0]))

    def planes(total):  # wider lines are squeezed, narrower ones padded with the value 0, as PP-OCR does; BGR
        columns = min(width, total)
        small = skimage.transform.resize(image, (48, columns), anti_aliasing=True).astype(np.float32) * 2 - 1
        padded = np.zeros((48, total, 3), np.float32)
        padded[:, :columns] = small[:, :, ::-1]
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])

    np.save(folder / f"line-{name}.npy", planes((width + 7) // 8 * 8))
    np.save(folder / f"fixed-{name}.npy", planes(320))
    (folder / f"line-{name}.txt").write_text(text)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee", "camera"):
        face(getattr(skimage.data, name)(), name, folder)
    # The astronaut's face alone, large in the picture.
    face(skimage.data.astronaut()[0:280, 80:360], "astronaut-close", folder)
    for index, (font, size, text) in enumerate(SENTENCES):
        line(font, size, text, str(index), folder)


main()
