#include "tests/fuzz/harness.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <ingot/values.h>

namespace fuzz {
namespace {

[[noreturn]] void die(const char *what, const char *detail) {
  std::fprintf(stderr, "fuzz: %s: %s\n", what, detail);
  std::abort();
}

// Counts what is held; refuses beyond the limit; dies on a release of another size than was allocated.
struct LimitedAllocator {
  size_t held = 0;
  static constexpr size_t kHead = 4096; // the largest alignment that is asked for
  static void *allocate(void *user, size_t size, size_t alignment) {
    LimitedAllocator &a = *static_cast<LimitedAllocator *>(user);
    if (alignment == 0 || (alignment & (alignment - 1)) || alignment > kHead) die("allocator", "odd alignment");
    if (size == 0) die("allocator", "zero bytes asked for");
    if (size > kMemoryLimit || a.held > kMemoryLimit - size) return nullptr;
    void *memory = nullptr; // exact bytes, so that AddressSanitizer sees the first one past the end
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0)
      return nullptr;
    std::memset(memory, 0xa5, size);
    a.held += size;
    return memory;
  }
  static void release(void *user, void *memory, size_t size, size_t) {
    LimitedAllocator &a = *static_cast<LimitedAllocator *>(user);
    if (size > a.held) die("allocator", "more released than allocated");
    a.held -= size;
    std::free(memory);
  }
  ingot_allocator_t get() { return {this, allocate, release}; }
};

// A failure must say something, and may not blame Ingot itself.
void check_error(ingot_code_t code, const ingot_error_t &error, const char *where) {
  if (code == INGOT_OK) return;
  if (code < 0 || code > INGOT_INTERNAL) die(where, "an unknown code");
  if (code == INGOT_INTERNAL) die(where, error.message);
  if (error.code != code) die(where, "the error's code differs from the one returned");
  if (!std::memchr(error.message, 0, sizeof error.message) || !error.message[0]) die(where, "no message");
}

volatile uint64_t g_sink; // what introspection returns is read, so that every byte of it is

void read_text(const char *text) {
  if (!text) die("introspection", "a NULL string");
  g_sink = g_sink + std::strlen(text);
}

void introspect_function(const ingot_archive_t *archive, uint32_t v, uint32_t f) {
  ingot_function_info_t info;
  if (ingot_archive_function(archive, v, f, &info) != INGOT_OK)
    die("introspection", "a function that is not there");
  read_text(info.name);
  std::vector<int64_t> low, high;
  for (uint32_t s = 0; s < info.symbol_count; ++s) {
    ingot_symbol_info_t symbol;
    if (ingot_archive_symbol(archive, v, f, s, &symbol) != INGOT_OK)
      die("introspection", "a symbol that is not there");
    read_text(symbol.name);
    low.push_back(symbol.min);
    high.push_back(symbol.max);
  }
  char text[256];
  for (uint32_t e = 0; e < info.expr_count && e < 64; ++e) {
    ingot_archive_expr_text(archive, v, f, e, text, sizeof text);
    ingot_archive_expr_text(archive, v, f, e, nullptr, 0);
    int64_t value;
    ingot_error_t error;
    for (const auto &symbols : {low, high})
      check_error(ingot_archive_evaluate(archive, v, f, e, symbols.data(), info.symbol_count, &value, &error),
                  error, "evaluate");
  }
  for (uint32_t a = 0; a < info.arena_count; ++a)
    ingot_archive_expr_text(archive, v, f, ingot_archive_arena(archive, v, f, a), text, sizeof text);
  for (uint32_t s = 0; s < info.slot_count; ++s) {
    ingot_slot_info_t slot;
    if (ingot_archive_slot(archive, v, f, s, &slot) != INGOT_OK)
      die("introspection", "a slot that is not there");
    read_text(slot.name);
    read_text(slot.kind);
    ingot_archive_expr_text(archive, v, f, slot.offset, text, sizeof text);
  }
  for (uint32_t s = 0; s < info.site_count; ++s) {
    ingot_site_info_t site;
    if (ingot_archive_site(archive, v, f, s, &site) != INGOT_OK)
      die("introspection", "a site that is not there");
    for (uint32_t n = 0; n < site.node_count; ++n) read_text(ingot_archive_site_node(archive, v, f, s, n));
  }
  uint32_t cursor = 0, depth = 0;
  for (int n = 0; n < 64 && ingot_archive_command_text(archive, v, f, &cursor, &depth, text, sizeof text);
       ++n) {
    read_text(text);
    if (depth > 64) die("introspection", "nested deeper than may be");
  }
}

void introspect(const ingot_archive_t *archive) {
  ingot_archive_info_t info;
  ingot_archive_info(archive, &info);
  read_text(info.compiler);
  read_text(info.flags);
  read_text(info.source_name);
  for (uint32_t s = 0; s < info.segment_count; ++s) {
    ingot_segment_info_t segment;
    if (ingot_archive_segment(archive, s, &segment) != INGOT_OK)
      die("introspection", "a segment that is not there");
    read_text(segment.name);
    const uint8_t *bytes = static_cast<const uint8_t *>(segment.data);
    if (segment.size) g_sink = g_sink + bytes[0] + bytes[segment.size - 1];
  }
  for (uint32_t v = 0; v < info.variant_count; ++v) {
    ingot_variant_info_t variant;
    if (ingot_archive_variant(archive, v, &variant) != INGOT_OK)
      die("introspection", "a variant that is not there");
    read_text(variant.target);
    read_text(variant.arch);
    for (uint32_t k = 0; k < variant.kernel_count; ++k) {
      ingot_kernel_info_t kernel;
      if (ingot_archive_kernel(archive, v, k, &kernel) != INGOT_OK)
        die("introspection", "a kernel that is not there");
      read_text(kernel.name);
      for (uint32_t n = 0; n < kernel.version_count; ++n) {
        ingot_version_info_t version;
        if (ingot_archive_kernel_version(archive, v, k, n, &version) != INGOT_OK)
          die("introspection", "a version that is not there");
        read_text(version.entry);
        read_text(version.schedule);
        read_text(version.format);
      }
    }
    for (uint32_t f = 0; f < variant.function_count; ++f) introspect_function(archive, v, f);
  }
}

// Memory of exactly `size` bytes of its own.
struct Exact {
  explicit Exact(size_t size) : data(static_cast<uint8_t *>(std::malloc(size ? size : 1))), size(size) {}
  ~Exact() { std::free(data); }
  Exact(const Exact &) = delete;
  uint8_t *data;
  size_t size;
};

// Strings of the dims given, or a list of two tensors, or nothing: as the number of the input says.
struct Value {
  Value() {
    ingot_error_t error;
    if (ingot_value_create(nullptr, &handle, &error) != INGOT_OK) die("value", error.message);
  }
  ~Value() { ingot_value_release(handle); }
  Value(const Value &) = delete;
  bool fill(const ingot_tensor_t &tensor, uint32_t input) {
    static constexpr ingot_string_t kWords[] = {{"one", 3}, {"Monday", 6}, {"two-\xc3\xa4-", 7}, {"", 0}, {"\xff\xe2\x82", 3}};
    if (tensor.type == INGOT_ELEMENT_TYPE_STRING) {
      uint64_t count = 1;
      for (uint32_t d = 0; d < tensor.rank; ++d)
        if (tensor.dims[d] < 0 || __builtin_mul_overflow(count, uint64_t(tensor.dims[d]), &count) || count > 4096) return false;
      std::vector<ingot_string_t> strings;
      for (uint64_t i = 0; i < count; ++i) strings.push_back(kWords[(i + input) % 5]);
      return ingot_value_set_strings(handle, strings.data(), tensor.dims, tensor.rank, nullptr) == INGOT_OK;
    }
    if (input % 3 == 0) return true;
    float numbers[6] = {1, 2, 3, 4, 5, 6};
    ingot_tensor_t t = {numbers, sizeof numbers, nullptr, 0, INGOT_ELEMENT_TYPE_F32, 2, {2, 3}};
    Value a, b;
    ingot_value_set_tensor(a.handle, &t, nullptr);
    t.dims[0] = 1;
    ingot_value_set_tensor(b.handle, &t, nullptr);
    const ingot_value_t *elements[] = {a.handle, b.handle};
    return ingot_value_set_list(handle, INGOT_ELEMENT_TYPE_F32, elements, 2, nullptr) == INGOT_OK;
  }
  // Everything that it holds is read.
  void read() const {
    const bool list = ingot_value_kind(handle) == INGOT_VALUE_LIST;
    for (size_t i = 0; i < (list ? ingot_value_count(handle) : 1); ++i) {
      ingot_tensor_t t;
      const uint32_t element = list ? uint32_t(i) : INGOT_NONE;
      if (ingot_value_tensor(handle, element, &t, nullptr) != INGOT_OK) continue;
      if (t.size) g_sink = g_sink + static_cast<const uint8_t *>(t.data)[0] + static_cast<const uint8_t *>(t.data)[t.size - 1];
      ingot_string_t text;
      for (uint64_t s = 0; ingot_value_string(handle, element, s, &text, nullptr) == INGOT_OK && s < 4096; ++s)
        for (size_t c = 0; c < text.size; ++c) g_sink = g_sink + uint8_t(text.data[c]);
    }
  }
  ingot_value_t *handle = nullptr;
};

bool is_value(ingot_element_type_t type) { return type >= INGOT_ELEMENT_TYPE_STRING; }

// Runs one function on inputs whose symbols are at their smallest (or largest) values. True where the run
// succeeded.
bool run_function(const ingot_archive_t *archive, ingot_session_t *session, ingot_context_t *context,
                  uint32_t f, bool largest) {
  const uint32_t v = ingot_session_variant(session);
  ingot_function_info_t info;
  if (ingot_archive_function(archive, 0, f, &info) != INGOT_OK) die("run", "a function that is not there");
  std::vector<int64_t> symbols;
  for (uint32_t s = 0; s < info.symbol_count; ++s) {
    ingot_symbol_info_t symbol;
    ingot_archive_symbol(archive, 0, f, s, &symbol);
    symbols.push_back(largest ? symbol.max : symbol.min > 1 || symbol.max < 3 ? symbol.min : 3);
  }
  if (info.input_count > 64 || info.output_count > 64) return false;
  std::vector<ingot_tensor_t> inputs, outputs(info.output_count);
  std::vector<Exact *> memory;
  std::vector<Value *> values;
  struct Cleaner {
    std::vector<Exact *> &m;
    std::vector<Value *> &v;
    ~Cleaner() {
      for (Exact *e : m) delete e;
      for (Value *value : v) delete value;
    }
  } cleaner{memory, values};
  for (uint32_t i = 0; i < info.input_count; ++i) {
    ingot_signature_tensor_t signature;
    if (ingot_archive_input(archive, f, i, &signature) != INGOT_OK) die("run", "an input that is not there");
    ingot_tensor_t tensor{};
    tensor.type = signature.type;
    tensor.rank = signature.rank;
    uint64_t bits = ingot_element_type_bits(signature.type);
    for (uint32_t d = 0; d < signature.rank; ++d) {
      if (ingot_archive_evaluate(archive, 0, f, signature.dims[d], symbols.data(), info.symbol_count,
                                 &tensor.dims[d], nullptr) != INGOT_OK)
        tensor.dims[d] = 1;
      if (tensor.dims[d] < 0 || __builtin_mul_overflow(bits, uint64_t(tensor.dims[d]), &bits) ||
          bits > 8u << 22)
        bits = 8;
    }
    if (is_value(tensor.type)) {
      values.push_back(new Value);
      if (!values.back()->fill(tensor, i)) return false;
      tensor.data = values.back()->handle;
      inputs.push_back(tensor);
      continue;
    }
    memory.push_back(new Exact((bits + 7) / 8));
    const size_t step =
        ingot_element_type_bits(signature.type) >= 8 ? ingot_element_type_bits(signature.type) / 8 : 1;
    for (size_t b = 0; b < memory.back()->size; ++b)
      memory.back()->data[b] = b % step == 0 ? uint8_t(3 + i) : 0; // small integers
    tensor.data = memory.back()->data;
    tensor.size = memory.back()->size;
    inputs.push_back(tensor);
  }
  (void)v;
  ingot_error_t error;
  ingot_code_t code =
      ingot_session_infer(session, f, inputs.data(), inputs.size(), outputs.data(), outputs.size(), &error);
  check_error(code, error, "infer");
  if (code != INGOT_OK) return false;
  for (ingot_tensor_t &output : outputs) {
    if (is_value(output.type)) {
      values.push_back(new Value);
      output.data = values.back()->handle;
      continue;
    }
    const size_t size = output.size > size_t(8) << 20 ? 16 : output.size;
    memory.push_back(new Exact(size));
    output.data = memory.back()->data;
    output.size = size;
  }
  ingot_run_options_t options{};
  options.struct_size = sizeof options;
  options.timeout_ns = 20'000'000;
  code = ingot_context_run(context, f, inputs.data(), inputs.size(), outputs.data(), outputs.size(), &options,
                           &error);
  check_error(code, error, "run");
  for (const Value *value : values) value->read();
  return code == INGOT_OK;
}

bool has_native_code(const ingot_archive_t *archive) {
  ingot_archive_info_t info;
  ingot_archive_info(archive, &info);
  for (uint32_t v = 0; v < info.variant_count; ++v) {
    ingot_variant_info_t variant;
    ingot_archive_variant(archive, v, &variant);
    // A driver takes a variant as bytecode only if it says so and every image is: anything else counts as native.
    if (variant.kernel_count && std::strcmp(variant.target, "vmvx") != 0) return true;
  }
  return false;
}

void run_on(ingot_instance_t *instance, ingot_archive_t *archive, const char *uri, bool run, Report *report) {
  ingot_error_t error;
  ingot_device_t *device = nullptr;
  ingot_code_t code = ingot_device_open(instance, &uri, 1, nullptr, &device, &error);
  check_error(code, error, "open");
  if (code != INGOT_OK) return;
  ingot_archive_info_t info;
  ingot_archive_info(archive, &info);
  for (uint32_t v = 0; v < info.variant_count && v < 16; ++v)
    check_error(ingot_archive_explain(archive, v, device, &error), error, "explain");
  ingot_session_t *session = nullptr;
  code = ingot_session_prepare(device, archive, &session, &error);
  check_error(code, error, "prepare");
  if (code == INGOT_OK) {
    ingot_context_t *context = nullptr;
    code = ingot_context_create(session, &context, &error);
    check_error(code, error, "context");
    if (code == INGOT_OK && run) {
      ingot_variant_info_t variant;
      ingot_archive_variant(archive, 0, &variant);
      for (uint32_t f = 0; f < variant.function_count && f < 4; ++f)
        for (int round = 0; round < 3; ++round) { // twice the same dims, then others
          const bool ok = run_function(archive, session, context, f, round == 2);
          ++(ok ? report->runs_ok : report->runs_failed);
        }
      report->outcome = Outcome::ran;
    }
    ingot_context_release(context);
    ingot_session_release(session);
  }
  ingot_device_release(device);
}

} // namespace

Report exercise(const uint8_t *data, size_t size) {
  Report report;
  LimitedAllocator memory;
  const ingot_allocator_t allocator = memory.get();
  // A copy of exactly this size, aligned as a mapped file is.
  void *copy = nullptr;
  if (posix_memalign(&copy, 4096, size ? size : 1) != 0) die("harness", "out of memory");
  if (size) std::memcpy(copy, data, size);
  ingot_error_t error;
  ingot_instance_t *instance = nullptr;
  ingot_archive_t *archive = nullptr;
  check_error(ingot_instance_create(&allocator, &instance, &error), error, "instance");
  const ingot_code_t code = ingot_values_archive_open(&allocator, copy, size, /*borrow=*/true, &archive, &error);
  check_error(code, error, "open archive");
  if (code == INGOT_OK) {
    report.outcome = Outcome::loaded;
    introspect(archive);
    const ingot_code_t hashes = ingot_archive_check_hashes(archive, &error);
    check_error(hashes, error, "hashes");
    report.hashes_ok = hashes == INGOT_OK;
    // Native code is trusted as far as its archive is, so that of a mutated archive is loaded but never run. Bytecode is run.
    run_on(instance, archive, "local-sync", !has_native_code(archive), &report);
#if INGOT_DRIVER_LOCAL_TASK
    run_on(instance, archive, "local-task://0?threads=1", !has_native_code(archive), &report); // hazards and waves
#endif
    run_on(instance, archive, "null", true, &report);
  } else {
    if (code != INGOT_CORRUPT && code != INGOT_INCOMPATIBLE && code != INGOT_OUT_OF_MEMORY)
      die("open archive", ingot_code_name(code));
    std::snprintf(report.message, sizeof report.message, "%s", error.message);
  }
  ingot_archive_release(archive);
  ingot_instance_release(instance);
  if (memory.held != 0) die("allocator", "memory was not given back");
  std::free(copy);
  return report;
}

} // namespace fuzz
