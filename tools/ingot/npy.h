// Reads and writes .npy files, versions 1 to 3, and reads raw binary files. Foreign bytes: every number is
// checked before it is used, and every refusal says what the file holds and what would do. Big-endian data,
// structured types, Python objects and text are refused; Fortran order is converted.
#pragma once

#include <string>

#include "tools/ingot/tensor.h"

namespace ingot::tool {

// What a file holds, before anyone asks for a type.
struct NpyArray {
  std::string descr; // "<f4"
  char kind = 0;     // b i u f c V
  uint32_t item_bytes = 0;
  std::vector<int64_t> dims; // C order
  Bytes bytes;
};

// Whole file of at most `limit` bytes; throws Failure with the path and the system's reason.
Bytes read_file(const std::string &path, uint64_t limit = uint64_t(1) << 40);
// Writes through a temporary file beside it and a rename, so that no half-written file is ever seen; files that
// are not regular (a pipe, /dev/stdout) are written directly.
void write_file(const std::string &path, const void *const *parts, const size_t *sizes, size_t count);

NpyArray parse_npy(const uint8_t *data, size_t size, const std::string &path);
NpyArray read_npy(const std::string &path);

// The array as a tensor. `wanted` decides between types that .npy cannot tell apart (bf16, fp8, int4, ... are
// stored as void bytes; sub-byte types take one byte an element there); INGOT_ELEMENT_TYPE_NONE: what the file
// says. A type that differs is kept as it is: the runtime refuses it with the input's name.
HostTensor to_tensor(NpyArray array, ElementType wanted, const std::string &path);

// A .npy header (version 1.0, or 2.0 where it must be) for a tensor.
std::string npy_header(const TensorType &type);
void write_npy(const std::string &path, const HostTensor &tensor);

} // namespace ingot::tool
