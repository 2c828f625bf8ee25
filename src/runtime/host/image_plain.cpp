// BMP (uncompressed, 1 to 32 bits a pixel) and PNM.
#include "src/runtime/host/image.h"

namespace ingot {

namespace {

uint32_t little(const uint8_t *p, uint32_t bytes) {
  uint32_t v = 0;
  for (uint32_t i = 0; i < bytes; ++i) v |= uint32_t(p[i]) << 8 * i;
  return v;
}

// A channel of a pixel by its mask, widened to 8 bits.
uint8_t channel(uint32_t pixel, uint32_t mask) {
  if (mask == 0) return 0;
  const uint32_t shift = uint32_t(__builtin_ctz(mask)), most = mask >> shift;
  return uint8_t((uint64_t(pixel & mask) >> shift) * 255 / most);
}

// Numbers and comments of a PNM header.
class PnmReader {
public:
  explicit PnmReader(ImageFile file) : file_(file) {}
  bool number(uint32_t *out) {
    while (at_ < file_.size && (space(file_.data[at_]) || file_.data[at_] == '#'))
      if (file_.data[at_++] == '#')
        while (at_ < file_.size && file_.data[at_] != '\n') ++at_;
    const size_t begin = at_;
    uint32_t v = 0;
    for (; at_ < file_.size && file_.data[at_] >= '0' && file_.data[at_] <= '9' && at_ - begin < 9; ++at_)
      v = v * 10 + (file_.data[at_] - '0');
    *out = v;
    return at_ > begin;
  }
  bool bit(uint32_t *out) { // of P1, where digits need no space between them
    while (at_ < file_.size && space(file_.data[at_])) ++at_;
    if (at_ == file_.size || (file_.data[at_] != '0' && file_.data[at_] != '1')) return false;
    *out = file_.data[at_++] == '1';
    return true;
  }
  size_t at_ = 2;

private:
  static bool space(uint8_t c) { return c == ' ' || (c >= 9 && c <= 13); }
  ImageFile file_;
};

} // namespace

Code decode_bmp(ImageFile file, Picture *out) {
  if (file.size < 54) return out->damaged("BMP");
  const uint8_t *d = file.data;
  const uint32_t offset = little(d + 10, 4), header = little(d + 14, 4), bits = little(d + 28, 2), compression = little(d + 30, 4);
  const int64_t width = int32_t(little(d + 18, 4)), height = int32_t(little(d + 22, 4));
  const bool masks = compression == 3 && (bits == 16 || bits == 32);
  if (header < 40 || header > file.size - 14 || width <= 0 || height == 0 || (compression != 0 && !masks) ||
      (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32))
    return out->damaged("BMP (uncompressed)");
  INGOT_TRY(out->resize(uint64_t(width), uint64_t(height < 0 ? -height : height)));
  const uint64_t stride = (uint64_t(out->width) * bits + 31) / 32 * 4;
  if (!fits(offset, stride * out->height, file.size)) return out->damaged("BMP: it is truncated");
  uint32_t mask[3] = {0xff0000, 0xff00, 0xff};
  if (bits == 16) mask[0] = 0x7c00, mask[1] = 0x3e0, mask[2] = 0x1f;
  const uint64_t palette = 14 + uint64_t(header);
  if (masks) {
    if (file.size < 66) return out->damaged("BMP");
    for (uint32_t i = 0; i < 3; ++i) mask[i] = little(d + 54 + 4 * i, 4);
  }
  uint32_t colours = bits <= 8 ? little(d + 46, 4) : 0;
  if (bits <= 8 && (colours == 0 || colours > 1u << bits)) colours = 1u << bits;
  if (!fits(palette, uint64_t(colours) * 4, file.size)) return out->damaged("BMP: it is truncated");
  for (uint32_t y = 0; y < out->height; ++y) {
    const uint8_t *from = d + offset + stride * (height < 0 ? y : out->height - 1 - y);
    uint8_t *to = out->row(y);
    for (uint32_t x = 0; x < out->width; ++x, to += 3) {
      if (bits <= 8) {
        const uint32_t bit = x * bits, index = from[bit / 8] >> (8 - bits - bit % 8) & ((1u << bits) - 1);
        if (index >= colours) return out->damaged("BMP: a pixel is outside its palette");
        for (uint32_t c = 0; c < 3; ++c) to[c] = d[palette + 4 * index + 2 - c];
      } else if (bits == 24) {
        to[0] = from[3 * x + 2], to[1] = from[3 * x + 1], to[2] = from[3 * x];
      } else {
        for (uint32_t c = 0; c < 3; ++c) to[c] = channel(little(from + size_t(x) * (bits / 8), bits / 8), mask[c]);
      }
    }
  }
  return INGOT_OK;
}

Code decode_pnm(ImageFile file, Picture *out) {
  PnmReader reader(file);
  const uint32_t kind = uint32_t(file.data[1] - '0');
  const bool text = kind <= 3, bitmap = kind == 1 || kind == 4, colour = kind == 3 || kind == 6;
  uint32_t width = 0, height = 0, most = 1;
  if (!reader.number(&width) || !reader.number(&height) || (!bitmap && !reader.number(&most)) || most == 0 || most > 65535)
    return out->damaged("PNM");
  INGOT_TRY(out->resize(width, height));
  const uint32_t samples = colour ? 3 : 1, bytes = most > 255 ? 2 : 1;
  ++reader.at_; // one white space ends the header
  const uint64_t stride = bitmap ? (width + 7) / 8 : uint64_t(width) * samples * bytes;
  if (!text && (reader.at_ > file.size || !fits(reader.at_, stride * height, file.size))) return out->damaged("PNM: it is truncated");
  for (uint32_t y = 0; y < height; ++y) {
    const uint8_t *from = text ? nullptr : file.data + reader.at_ + stride * y;
    uint8_t *to = out->row(y);
    for (uint32_t x = 0; x < width; ++x, to += 3)
      for (uint32_t s = 0; s < samples; ++s) {
        uint32_t v = 0;
        const size_t at = (size_t(x) * samples + s) * bytes;
        if (text && !(bitmap ? reader.bit(&v) : reader.number(&v))) return out->damaged("PNM: it is truncated");
        if (!text) v = bitmap ? from[x / 8] >> (7 - x % 8) & 1 : bytes == 2 ? uint32_t(from[at] << 8 | from[at + 1]) : from[at];
        if (bitmap) v = 1 - v; // 1 is black
        if (v > most) v = most;
        const uint8_t value = uint8_t(most == 255 ? v : (v * 255 + most / 2) / most);
        if (colour) to[s] = value;
        else to[0] = to[1] = to[2] = value;
      }
  }
  return INGOT_OK;
}

} // namespace ingot
