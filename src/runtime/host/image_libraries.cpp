// JPEG, PNG, JPEG 2000, TIFF and WebP, each by its library. The file is in memory; a library's errors become ours, and its
// complaints are not printed.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>

#include "src/runtime/host/image.h"

#if defined(INGOT_IMAGE_JPEG)
#include <jpeglib.h>

namespace ingot {
namespace {

struct JpegError {
  jpeg_error_mgr base;
  jmp_buf where;
};
[[noreturn]] void leave_jpeg(j_common_ptr info) { longjmp(reinterpret_cast<JpegError *>(info->err)->where, 1); }
void silent_jpeg(j_common_ptr, int) {}

// No object with a destructor lives in here: errors jump out.
Code read_jpeg(jpeg_decompress_struct *info, JpegError *error, ImageFile file, Picture *out) {
  if (setjmp(error->where)) return out->damaged("JPEG");
  jpeg_create_decompress(info);
  jpeg_mem_src(info, file.data, static_cast<unsigned long>(file.size));
  jpeg_read_header(info, TRUE);
  info->out_color_space = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(info);
  if (info->output_components != 3) return out->damaged("JPEG of gray or colours (it is CMYK)");
  INGOT_TRY(out->resize(info->output_width, info->output_height));
  while (info->output_scanline < info->output_height) {
    JSAMPROW row = out->row(info->output_scanline);
    jpeg_read_scanlines(info, &row, 1);
  }
  jpeg_finish_decompress(info);
  return INGOT_OK;
}

} // namespace

Code decode_jpeg(ImageFile file, Picture *out) {
  jpeg_decompress_struct info = {};
  JpegError error = {};
  info.err = jpeg_std_error(&error.base);
  error.base.error_exit = leave_jpeg;
  error.base.emit_message = silent_jpeg;
  const Code code = read_jpeg(&info, &error, file, out);
  jpeg_destroy_decompress(&info);
  return code;
}

} // namespace ingot
#endif

#if defined(INGOT_IMAGE_PNG)
#include <png.h>

namespace ingot {

Code decode_png(ImageFile file, Picture *out) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, file.data, file.size)) return out->damaged("PNG");
  // With an alpha channel the colours are kept and it is dropped: RGBA is read, as RGB would be blended with a background.
  image.format = PNG_FORMAT_RGBA;
  Code code = out->resize(image.width, image.height);
  uint8_t *rgba = code == INGOT_OK ? static_cast<uint8_t *>(malloc(PNG_IMAGE_SIZE(image))) : nullptr;
  if (code == INGOT_OK && !rgba) code = out->no_memory();
  if (code == INGOT_OK && !png_image_finish_read(&image, nullptr, rgba, 0, nullptr)) code = out->damaged("PNG");
  for (size_t i = 0; code == INGOT_OK && i < size_t(out->width) * out->height; ++i) memcpy(out->pixels.data() + 3 * i, rgba + 4 * i, 3);
  free(rgba);
  png_image_free(&image);
  return code;
}

} // namespace ingot
#endif

#if defined(INGOT_IMAGE_JPEG2000)
#include <openjpeg.h>

namespace ingot {
namespace {

struct Cursor {
  ImageFile file;
  size_t at;
};
OPJ_SIZE_T read_some(void *to, OPJ_SIZE_T n, void *user) {
  Cursor &c = *static_cast<Cursor *>(user);
  const size_t left = c.file.size - c.at, taken = n < left ? n : left;
  if (taken == 0) return OPJ_SIZE_T(-1);
  memcpy(to, c.file.data + c.at, taken);
  c.at += taken;
  return taken;
}
OPJ_OFF_T skip_some(OPJ_OFF_T n, void *user) {
  Cursor &c = *static_cast<Cursor *>(user);
  if (n < 0 || size_t(n) > c.file.size - c.at) return -1;
  c.at += size_t(n);
  return n;
}
OPJ_BOOL seek_to(OPJ_OFF_T at, void *user) {
  Cursor &c = *static_cast<Cursor *>(user);
  if (at < 0 || size_t(at) > c.file.size) return OPJ_FALSE;
  c.at = size_t(at);
  return OPJ_TRUE;
}
void silent_message(const char *, void *) {}

// Components of one size, 8 bits or more, gray or RGB (an alpha channel is dropped).
Code copy_components(const opj_image_t &image, Picture *out) {
  if (image.numcomps < 1) return out->damaged("JPEG 2000");
  const opj_image_comp_t &first = image.comps[0];
  for (uint32_t c = 0; c < (image.numcomps >= 3 ? 3u : 1u); ++c) {
    const opj_image_comp_t &k = image.comps[c];
    if (!k.data || k.w != first.w || k.h != first.h || k.prec < 1 || k.prec > 16) return out->damaged("JPEG 2000 of 3 equal components");
  }
  INGOT_TRY(out->resize(first.w, first.h));
  for (size_t i = 0; i < size_t(first.w) * first.h; ++i)
    for (uint32_t c = 0; c < 3; ++c) {
      const opj_image_comp_t &k = image.comps[image.numcomps >= 3 ? c : 0];
      int64_t v = int64_t(k.data[i]) + (k.sgnd ? int64_t(1) << (k.prec - 1) : 0);
      v = k.prec > 8 ? v >> (k.prec - 8) : v << (8 - k.prec);
      out->pixels[3 * i + c] = uint8_t(v < 0 ? 0 : v > 255 ? 255 : v);
    }
  return INGOT_OK;
}

} // namespace

Code decode_jpeg2000(ImageFile file, Picture *out) {
  Cursor cursor = {file, 0};
  opj_codec_t *codec = opj_create_decompress(file.data[0] == 0xff ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
  opj_stream_t *stream = opj_stream_create(1 << 16, OPJ_TRUE);
  opj_image_t *image = nullptr;
  Code code = codec && stream ? Code(INGOT_OK) : out->no_memory();
  if (code == INGOT_OK) {
    opj_set_error_handler(codec, silent_message, nullptr);
    opj_set_warning_handler(codec, silent_message, nullptr);
    opj_stream_set_read_function(stream, read_some);
    opj_stream_set_skip_function(stream, skip_some);
    opj_stream_set_seek_function(stream, seek_to);
    opj_stream_set_user_data(stream, &cursor, nullptr);
    opj_stream_set_user_data_length(stream, file.size);
    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    bool good = opj_setup_decoder(codec, &parameters) && opj_read_header(stream, codec, &image);
    // The header's claim is looked at before memory of that size is asked for.
    good = good && image->x1 > image->x0 && image->y1 > image->y0 &&
           uint64_t(image->x1 - image->x0) * (image->y1 - image->y0) <= 1 << 28 && image->numcomps <= 4;
    good = good && opj_decode(codec, stream, image) && opj_end_decompress(codec, stream);
    code = good ? copy_components(*image, out) : out->damaged("JPEG 2000");
  }
  if (image) opj_image_destroy(image);
  if (stream) opj_stream_destroy(stream);
  if (codec) opj_destroy_codec(codec);
  return code;
}

} // namespace ingot
#endif

#if defined(INGOT_IMAGE_TIFF)
#include <tiffio.h>

namespace ingot {
namespace {

struct TiffFile {
  ImageFile file;
  toff_t at;
};
tmsize_t tiff_read(thandle_t user, void *to, tmsize_t n) {
  TiffFile &f = *static_cast<TiffFile *>(user);
  if (n <= 0 || f.at >= f.file.size) return 0;
  const size_t left = f.file.size - size_t(f.at), taken = size_t(n) < left ? size_t(n) : left;
  memcpy(to, f.file.data + f.at, taken);
  f.at += taken;
  return tmsize_t(taken);
}
tmsize_t tiff_write(thandle_t, void *, tmsize_t) { return 0; }
toff_t tiff_seek(thandle_t user, toff_t offset, int whence) {
  TiffFile &f = *static_cast<TiffFile *>(user);
  f.at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? f.at + offset : f.file.size + offset;
  return f.at;
}
int tiff_close(thandle_t) { return 0; }
toff_t tiff_size(thandle_t user) { return static_cast<TiffFile *>(user)->file.size; }

} // namespace

Code decode_tiff(ImageFile file, Picture *out) {
  TiffFile source = {file, 0};
  // "m": no mapping; the library prints through handlers that are process-wide, so complaints are left to them.
  TIFF *tiff = TIFFClientOpen("image", "rm", &source, tiff_read, tiff_write, tiff_seek, tiff_close, tiff_size, nullptr, nullptr);
  if (!tiff) return out->damaged("TIFF");
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
  Code code = out->resize(width, height);
  uint32_t *pixels = code == INGOT_OK ? static_cast<uint32_t *>(malloc(size_t(width) * height * 4)) : nullptr;
  if (code == INGOT_OK && !pixels) code = out->no_memory();
  if (code == INGOT_OK && !TIFFReadRGBAImageOriented(tiff, width, height, pixels, ORIENTATION_TOPLEFT, 1)) code = out->damaged("TIFF");
  for (size_t i = 0; code == INGOT_OK && i < size_t(width) * height; ++i) {
    out->pixels[3 * i] = uint8_t(TIFFGetR(pixels[i]));
    out->pixels[3 * i + 1] = uint8_t(TIFFGetG(pixels[i]));
    out->pixels[3 * i + 2] = uint8_t(TIFFGetB(pixels[i]));
  }
  free(pixels);
  TIFFClose(tiff);
  return code;
}

} // namespace ingot
#endif

#if defined(INGOT_IMAGE_WEBP)
#include <webp/decode.h>

namespace ingot {

Code decode_webp(ImageFile file, Picture *out) {
  int width = 0, height = 0;
  if (!WebPGetInfo(file.data, file.size, &width, &height) || width <= 0 || height <= 0) return out->damaged("WebP");
  INGOT_TRY(out->resize(uint64_t(width), uint64_t(height)));
  return WebPDecodeRGBInto(file.data, file.size, out->pixels.data(), out->pixels.size(), width * 3) ? Code(INGOT_OK)
                                                                                                     : out->damaged("WebP");
}

} // namespace ingot
#endif
