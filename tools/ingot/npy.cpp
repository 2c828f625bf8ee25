// .npy: magic "\x93NUMPY", version, header length (2 or 4 bytes), a Python dict literal with 'descr',
// 'fortran_order' and 'shape', then the elements.
#include "tools/ingot/npy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tools/ingot/failure.h"

namespace ingot::tool {

namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMaxHeader = 1 << 20;

struct File {
  int handle;
  ~File() {
    if (handle >= 0) close(handle);
  }
};

std::string reason() { return std::strerror(errno); }

} // namespace

Bytes read_file(const std::string &path, uint64_t limit) {
  File file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.handle < 0) fail(path + ": cannot be opened: " + reason());
  struct stat info;
  if (fstat(file.handle, &info) != 0) fail(path + ": " + reason());
  if (!S_ISREG(info.st_mode)) fail(path + ": is not a regular file");
  if (uint64_t(info.st_size) > limit)
    fail(format("%s: %lld bytes, more than the %llu accepted", path.c_str(), (long long)info.st_size,
                (unsigned long long)limit));
  Bytes bytes(static_cast<size_t>(info.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = read(file.handle, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path + ": cannot be read: " + reason());
    if (n == 0) fail(path + ": became shorter while it was read");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

void write_file(const std::string &path, const void *const *parts, const size_t *sizes, size_t count) {
  struct stat info;
  const bool direct = stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
  if (direct && S_ISDIR(info.st_mode)) fail(path + ": cannot be written: it is a folder");
  const std::string target = direct ? path : path + ".tmp-" + std::to_string(getpid());
  File file{open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (direct ? 0 : O_TRUNC), 0666)};
  if (file.handle < 0) fail(path + ": cannot be written: " + reason());
  const auto give_up = [&](const std::string &why) {
    if (!direct) unlink(target.c_str());
    fail(path + ": cannot be written: " + why);
  };
  for (size_t part = 0; part < count; ++part)
    for (size_t done = 0; done < sizes[part];) {
      const ssize_t n =
          write(file.handle, static_cast<const uint8_t *>(parts[part]) + done, sizes[part] - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) give_up(reason());
      done += static_cast<size_t>(n);
    }
  const int handle = file.handle;
  file.handle = -1;
  if (close(handle) != 0) give_up(reason());
  if (!direct && rename(target.c_str(), path.c_str()) != 0) give_up(reason());
}

namespace {

// Reads the dict literal of a header: strings, True/False, tuples of integers. Anything else is refused.
class HeaderParser {
 public:
  HeaderParser(const char *text, size_t size, const std::string &path)
      : at_(text), end_(text + size), path_(path) {}

  void parse(std::string *descr, bool *fortran, std::vector<int64_t> *shape) {
    bool have_descr = false, have_order = false, have_shape = false;
    expect('{');
    while (peek() != '}') {
      const std::string key = string();
      expect(':');
      bool *have = nullptr;
      if (key == "descr") {
        have = &have_descr;
        if (peek() == '[') fail(path_ + ": a structured type; save one plain array a file");
        *descr = string();
      } else if (key == "fortran_order") {
        have = &have_order;
        *fortran = boolean();
      } else if (key == "shape") {
        have = &have_shape;
        tuple(shape);
      } else {
        bad("an unknown key '" + key.substr(0, 40) + "'");
      }
      if (*have) bad("'" + key + "' twice");
      *have = true;
      if (peek() != ',') break;
      ++at_;
    }
    expect('}');
    skip();
    if (at_ != end_) bad("text after the closing brace");
    if (!have_descr || !have_order || !have_shape) bad("no 'descr', 'fortran_order' or 'shape'");
  }

 private:
  [[noreturn]] void bad(const std::string &what) { fail(path_ + ": malformed .npy header: " + what); }
  void skip() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }
  char peek() {
    skip();
    if (at_ == end_) bad("it ends too early");
    return *at_;
  }
  void expect(char c) {
    if (peek() != c) bad(std::string("expected '") + c + "'");
    ++at_;
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') bad("expected a string");
    std::string out;
    for (++at_; at_ != end_ && *at_ != quote; ++at_) {
      if (*at_ == '\\') bad("an escape in a string");
      out += *at_;
    }
    if (at_ == end_) bad("a string without end");
    ++at_;
    return out;
  }
  bool boolean() {
    skip();
    for (const char *word : {"True", "False"}) {
      const size_t length = std::strlen(word);
      if (size_t(end_ - at_) >= length && std::memcmp(at_, word, length) == 0) {
        at_ += length;
        return word[0] == 'T';
      }
    }
    bad("'fortran_order' is neither True nor False");
  }
  void tuple(std::vector<int64_t> *out) {
    expect('(');
    while (peek() != ')') {
      if (*at_ < '0' || *at_ > '9') bad("a dim that is no number");
      int64_t value = 0;
      for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
        if (value > (int64_t(1) << 48)) bad("a dim above 2^48");
        value = value * 10 + (*at_ - '0');
      }
      out->push_back(value);
      if (out->size() > INGOT_MAX_RANK) fail(path_ + ": rank above 8, which no tensor may have");
      if (peek() != ',') break;
      ++at_;
    }
    expect(')');
  }

  const char *at_, *end_;
  const std::string &path_;
};

// Element bytes and kind of "<f4"; anything that is not plain little-endian numbers is refused.
void parse_descr(NpyArray &array, const std::string &path) {
  const std::string &d = array.descr;
  const auto refuse = [&](const std::string &why) { fail(path + ": type '" + d.substr(0, 40) + "' " + why); };
  if (d.size() < 3 || d.size() > 5) refuse("is not supported");
  if (d[0] == '>')
    refuse("is big-endian; save it in little-endian order (array.astype('<" + d.substr(1) + "'))");
  if (d[0] != '<' && d[0] != '|' && d[0] != '=') refuse("is not supported");
  array.kind = d[1];
  uint32_t bytes = 0;
  for (size_t i = 2; i < d.size(); ++i) {
    if (d[i] < '0' || d[i] > '9') refuse("is not supported");
    bytes = bytes * 10 + uint32_t(d[i] - '0');
  }
  array.item_bytes = bytes;
  const auto one_of = [&](std::initializer_list<uint32_t> sizes) {
    for (uint32_t size : sizes)
      if (bytes == size) return true;
    return false;
  };
  bool known = false;
  switch (array.kind) {
    case 'b':
      known = bytes == 1;
      break;
    case 'i':
    case 'u':
      known = one_of({1, 2, 4, 8});
      break;
    case 'f':
      known = one_of({2, 4, 8});
      break;
    case 'c':
      known = one_of({8, 16});
      break;
    case 'V':
      known = one_of({1, 2});
      break;
    case 'O':
      refuse("holds Python objects");
      break;
    case 'U':
    case 'S':
      refuse("holds text");
      break;
  }
  if (!known) refuse("is not supported");
}

// Fortran order -> C order.
Bytes transposed(const NpyArray &array, size_t count) {
  Bytes out(array.bytes.size());
  const size_t rank = array.dims.size(), item = array.item_bytes;
  std::vector<int64_t> index(rank, 0);
  for (size_t from = 0; from < count; ++from) {
    size_t to = 0;
    for (size_t d = 0; d < rank; ++d) to = to * size_t(array.dims[d]) + size_t(index[d]);
    std::memcpy(out.data() + to * item, array.bytes.data() + from * item, item);
    for (size_t d = 0; d < rank && ++index[d] == array.dims[d]; ++d) index[d] = 0;
  }
  return out;
}

} // namespace

NpyArray parse_npy(const uint8_t *data, size_t size, const std::string &path) {
  if (size < 10 || std::memcmp(data, kMagic, 6) != 0)
    fail(path +
         ": not a .npy file (it does not start with \\x93NUMPY); raw bytes need a type in front, "
         "as in 2x3xf32=@FILE.bin");
  const unsigned major = data[6], minor = data[7];
  if (major < 1 || major > 3 || minor != 0)
    fail(format("%s: .npy version %u.%u; 1.0, 2.0 and 3.0 are known", path.c_str(), major, minor));
  const size_t prefix = major == 1 ? 10 : 12;
  if (size < prefix) fail(path + ": ends in its header");
  size_t length = data[8] | size_t(data[9]) << 8;
  if (major > 1) length |= size_t(data[10]) << 16 | size_t(data[11]) << 24;
  if (length > size - prefix || length > kMaxHeader)
    fail(
        format("%s: a header of %zu bytes in a file of %zu: truncated or damaged", path.c_str(), length, size));
  NpyArray array;
  bool fortran = false;
  HeaderParser(reinterpret_cast<const char *>(data) + prefix, length, path)
      .parse(&array.descr, &fortran, &array.dims);
  parse_descr(array, path);
  size_t count = 1;
  for (int64_t dim : array.dims)
    if (dim == 0) count = 0;
  for (int64_t dim : array.dims) {
    if (count == 0) break;
    if (count > (size_t(1) << 40) / size_t(dim)) fail(path + ": its shape has more than 2^40 elements");
    count *= size_t(dim);
  }
  const size_t need = count * array.item_bytes, have = size - prefix - length;
  if (need != have)
    fail(format("%s: its shape needs %zu bytes of data, the file has %zu: %s", path.c_str(), need, have,
                have < need ? "it is truncated" : "it has too many"));
  array.bytes = Bytes(need);
  if (need) std::memcpy(array.bytes.data(), data + prefix + length, need);
  if (fortran && array.dims.size() > 1) array.bytes = transposed(array, count);
  return array;
}

NpyArray read_npy(const std::string &path) {
  const Bytes file = read_file(path);
  return parse_npy(file.data(), file.size(), path);
}

HostTensor to_tensor(NpyArray array, ElementType wanted, const std::string &path) {
  ElementType found = INGOT_ELEMENT_TYPE_NONE;
  const uint32_t log = array.item_bytes == 1 ? 0 : array.item_bytes == 2 ? 1 : array.item_bytes == 4 ? 2 : 3;
  switch (array.kind) {
    case 'b':
      found = INGOT_ELEMENT_TYPE_BOOL;
      break;
    case 'i':
      found = INGOT_ELEMENT_TYPE_I8 + ElementType(log);
      break;
    case 'u':
      found = INGOT_ELEMENT_TYPE_U8 + ElementType(log);
      break;
    case 'f':
      found = log == 1 ? INGOT_ELEMENT_TYPE_F16 : log == 2 ? INGOT_ELEMENT_TYPE_F32 : INGOT_ELEMENT_TYPE_F64;
      break;
    case 'c':
      found = array.item_bytes == 8 ? INGOT_ELEMENT_TYPE_COMPLEX64 : INGOT_ELEMENT_TYPE_COMPLEX128;
      break;
  }
  const uint32_t wanted_bits = ingot_element_type_bits(wanted);
  const bool extended = wanted == INGOT_ELEMENT_TYPE_BF16 ||
                        (wanted >= INGOT_ELEMENT_TYPE_F8E4M3FN && wanted <= INGOT_ELEMENT_TYPE_U2);
  const bool bytes_only = array.kind == 'V' || array.kind == 'u' || (array.kind == 'i' && is_signed(wanted));
  if (extended && bytes_only && array.item_bytes == (wanted_bits < 8 ? 1 : wanted_bits / 8)) {
    TensorType type{wanted, array.dims};
    if (wanted_bits >= 8) return {std::move(type), std::move(array.bytes)};
    HostTensor packed = make_tensor(std::move(type));
    const int64_t count = element_count(packed.type);
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t byte = array.bytes.data()[i];
      const uint8_t mask = uint8_t((1u << wanted_bits) - 1);
      const bool fits = (byte & ~mask) == 0 ||
                        (is_signed(wanted) && (byte | mask) == 0xff && (byte >> (wanted_bits - 1) & 1));
      if (!fits)
        fail(format("%s: element %lld (0x%02x) does not fit %s", path.c_str(), (long long)i, byte,
                    ingot_element_type_name(wanted)));
      set_element_bits(packed, i, byte & mask);
    }
    return packed;
  }
  if (found == INGOT_ELEMENT_TYPE_NONE)
    fail(path + ": type '" + array.descr + "' is plain bytes" +
         (wanted == INGOT_ELEMENT_TYPE_NONE
              ? std::string(", and nothing says which element type they are")
              : std::string(", which do not make ") + ingot_element_type_name(wanted)));
  HostTensor out{{found, std::move(array.dims)}, std::move(array.bytes)};
  if (found == INGOT_ELEMENT_TYPE_BOOL) // any byte that is not 0 counts as true
    for (size_t i = 0; i < out.bytes.size(); ++i) out.bytes.data()[i] = out.bytes.data()[i] != 0;
  return out;
}

std::string npy_header(const TensorType &type) {
  const uint32_t bits = ingot_element_type_bits(type.type);
  const std::string bytes = std::to_string(bits < 8 ? 1 : bits / 8);
  std::string descr;
  const ElementType t = type.type;
  if (t == INGOT_ELEMENT_TYPE_BOOL)
    descr = "|b1";
  else if (t == INGOT_ELEMENT_TYPE_F16 || t == INGOT_ELEMENT_TYPE_F32 || t == INGOT_ELEMENT_TYPE_F64)
    descr = "<f" + bytes;
  else if (is_complex(t))
    descr = "<c" + bytes;
  else if (t >= INGOT_ELEMENT_TYPE_I8 && t <= INGOT_ELEMENT_TYPE_U64)
    descr = (bits == 8 ? "|" : "<") + std::string(is_signed(t) ? "i" : "u") + bytes;
  else
    descr = "|V" + bytes; // what NumPy writes for the types that extend it
  std::string text = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (size_t d = 0; d < type.dims.size(); ++d)
    text += std::to_string(type.dims[d]) + (type.dims.size() == 1 ? "," : d + 1 < type.dims.size() ? ", " : "");
  text += "), }";
  const size_t total = (10 + text.size() + 1 + 63) / 64 * 64; // the data begins at a multiple of 64
  text += std::string(total - 10 - text.size() - 1, ' ') + "\n";
  std::string out(kMagic, 6);
  out += '\1';
  out += '\0';
  out += char(text.size() & 0xff);
  out += char(text.size() >> 8);
  return out + text;
}

void write_npy(const std::string &path, const HostTensor &tensor) {
  const std::string header = npy_header(tensor.type);
  const uint32_t bits = ingot_element_type_bits(tensor.type.type);
  Bytes unpacked;
  const Bytes *bytes = &tensor.bytes;
  size_t size = byte_size(tensor.type);
  if (bits < 8) {
    const int64_t count = element_count(tensor.type);
    unpacked = Bytes(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      uint8_t byte = uint8_t(element_bits(tensor, i));
      if (is_signed(tensor.type.type) && byte >> (bits - 1)) byte = uint8_t(byte | (0xff << bits));
      unpacked.data()[i] = byte;
    }
    bytes = &unpacked;
    size = unpacked.size();
  }
  const void *parts[] = {header.data(), bytes->data()};
  const size_t sizes[] = {header.size(), size};
  write_file(path, parts, sizes, 2);
}

} // namespace ingot::tool
