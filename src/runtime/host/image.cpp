// ImageDecoder: finds the format by the first bytes, decodes, and orders the channels.
#include "src/runtime/host/image.h"

namespace ingot {

Code Picture::resize(uint64_t w, uint64_t h) {
  if (w == 0 || h == 0 || w > 1 << 28 || h > (1 << 28) / w)
    return fail(error_, INGOT_OUT_OF_RANGE, "an image of %llu x %llu pixels", (unsigned long long)w, (unsigned long long)h);
  width = uint32_t(w);
  height = uint32_t(h);
  return pixels.create(allocator_, size_t(w * h * 3), "an image", error_);
}

namespace {

struct Format {
  const char *name;
  uint8_t offset, length;
  char magic[13];
  Code (*decode)(ImageFile file, Picture *out); // null: not in this build
};

#if defined(INGOT_IMAGE_JPEG)
constexpr auto kJpeg = decode_jpeg;
#else
constexpr Code (*kJpeg)(ImageFile, Picture *) = nullptr;
#endif
#if defined(INGOT_IMAGE_PNG)
constexpr auto kPng = decode_png;
#else
constexpr Code (*kPng)(ImageFile, Picture *) = nullptr;
#endif
#if defined(INGOT_IMAGE_JPEG2000)
constexpr auto kJpeg2000 = decode_jpeg2000;
#else
constexpr Code (*kJpeg2000)(ImageFile, Picture *) = nullptr;
#endif
#if defined(INGOT_IMAGE_TIFF)
constexpr auto kTiff = decode_tiff;
#else
constexpr Code (*kTiff)(ImageFile, Picture *) = nullptr;
#endif
#if defined(INGOT_IMAGE_WEBP)
constexpr auto kWebp = decode_webp;
#else
constexpr Code (*kWebp)(ImageFile, Picture *) = nullptr;
#endif

constexpr Format kFormats[] = {
    {"BMP", 0, 2, "BM", decode_bmp},
    {"PNM", 0, 2, "P1", decode_pnm},
    {"PNM", 0, 2, "P2", decode_pnm},
    {"PNM", 0, 2, "P3", decode_pnm},
    {"PNM", 0, 2, "P4", decode_pnm},
    {"PNM", 0, 2, "P5", decode_pnm},
    {"PNM", 0, 2, "P6", decode_pnm},
    {"JPEG", 0, 3, "\xff\xd8\xff", kJpeg},
    {"PNG", 0, 4, "\x89PNG", kPng},
    {"JPEG 2000", 4, 4, "jP  ", kJpeg2000},
    {"JPEG 2000", 0, 4, "\xff\x4f\xff\x51", kJpeg2000},
    {"TIFF", 0, 4, "II*\0", kTiff},
    {"TIFF", 0, 4, "MM\0*", kTiff},
    {"WebP", 8, 4, "WEBP", kWebp},
};

uint8_t luma(const uint8_t *p) { // ITU-R 601-2, as Pillow has it
  return uint8_t((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
}

} // namespace

Code host_decode(const HostOpArgs &a) {
  INGOT_TRY(need_numbers(a, 0, INGOT_ELEMENT_TYPE_U8));
  const ImageFile file = {a.sources[0]->data(), size_t(a.sources[0]->count)};
  const uint32_t order = a.immediates[0];
  if (order > 2) return fail(a.error, INGOT_CORRUPT, "pixel format %u is unknown", order);
  const Format *format = nullptr;
  for (const Format &f : kFormats)
    if (file.size >= size_t(f.offset) + f.length && memcmp(file.data + f.offset, f.magic, f.length) == 0) format = &f;
  if (!format) return fail(a.error, INGOT_INVALID_ARGUMENT, "the bytes are no image of a format that is known");
  if (!format->decode)
    return fail(a.error, INGOT_UNIMPLEMENTED, "this build of Ingot has no decoder of %s: configure it with -Dimage_decoder=enabled", format->name);
  Picture picture(a.allocator, a.error);
  INGOT_TRY(format->decode(file, &picture));
  const uint32_t channels = order == 2 ? 1 : 3;
  const int64_t dims[3] = {picture.height, picture.width, channels};
  INGOT_TRY(make_tensor(a.allocator, INGOT_ELEMENT_TYPE_U8, dims, 3, &a.results[0], a.error));
  uint8_t *to = a.results[0]->data();
  for (const uint8_t *p = picture.pixels.begin(); p != picture.pixels.end(); p += 3, to += channels) {
    if (order == 2) to[0] = luma(p);
    else to[0] = p[order == 1 ? 2 : 0], to[1] = p[1], to[2] = p[order == 1 ? 0 : 2];
  }
  return INGOT_OK;
}

} // namespace ingot
