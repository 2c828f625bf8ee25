// Decoders of image files, each to rows of RGB bytes. BMP and PNM are read here; the others by the libraries that a build
// has (-Dimage_decoder).
#pragma once

#include "src/runtime/host/ops.h"

namespace ingot {

struct ImageFile {
  const uint8_t *data;
  size_t size;
};

// Room for a picture: 3 bytes a pixel.
class Picture {
public:
  Picture(const ingot_allocator_t &allocator, Error *error) : allocator_(allocator), error_(error) {}
  // Once, before pixels are written. A header's claim of more than 2^28 pixels is refused.
  Code resize(uint64_t width, uint64_t height);
  Code damaged(const char *what) { return fail(error_, INGOT_INVALID_ARGUMENT, "the image is no readable %s", what); }
  Code no_memory() { return fail(error_, INGOT_OUT_OF_MEMORY, "out of memory: decoding an image"); }
  uint8_t *row(uint32_t y) { return pixels.data() + size_t(y) * width * 3; }

  uint32_t width = 0, height = 0;
  Array<uint8_t> pixels;

private:
  const ingot_allocator_t &allocator_;
  Error *error_;
};

Code decode_bmp(ImageFile file, Picture *out);
Code decode_pnm(ImageFile file, Picture *out);
Code decode_jpeg(ImageFile file, Picture *out);
Code decode_png(ImageFile file, Picture *out);
Code decode_jpeg2000(ImageFile file, Picture *out);
Code decode_tiff(ImageFile file, Picture *out);
Code decode_webp(ImageFile file, Picture *out);

} // namespace ingot
