// UTF-8, of which a byte that does not fit stands for U+FFFD and is one character long.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot {

// The character at `at` (< size), and how many bytes it takes.
inline uint32_t decode_utf8(const char *text, size_t size, size_t at, size_t *length) {
  const auto byte = [&](size_t i) { return uint32_t(uint8_t(text[at + i])); };
  const uint32_t first = byte(0);
  *length = 1;
  if (first < 0x80) return first;
  const size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || n > size - at) return 0xfffd;
  uint32_t c = first & (0xff >> (n + 1));
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0xfffd;
    c = c << 6 | (byte(i) & 0x3f);
  }
  const uint32_t least = n == 4 ? 0x10000 : n == 3 ? 0x800 : 0x80;
  if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0xfffd;
  *length = n;
  return c;
}

inline size_t encode_utf8(uint32_t c, char (&out)[4]) {
  if (c < 0x80) return out[0] = char(c), 1;
  if (c < 0x800) return out[0] = char(0xc0 | c >> 6), out[1] = char(0x80 | (c & 0x3f)), 2;
  if (c < 0x10000)
    return out[0] = char(0xe0 | c >> 12), out[1] = char(0x80 | (c >> 6 & 0x3f)), out[2] = char(0x80 | (c & 0x3f)), 3;
  out[0] = char(0xf0 | c >> 18), out[1] = char(0x80 | (c >> 12 & 0x3f)), out[2] = char(0x80 | (c >> 6 & 0x3f));
  return out[3] = char(0x80 | (c & 0x3f)), 4;
}

} // namespace ingot
