// Ingot for C++17, header-only over the C ABI of <ingot/ingot.h>: the same rules for errors, threads and lifetimes
// hold. No exceptions unless INGOT_EXCEPTIONS is defined; then Result's `*` and `->` throw ingot::Error.
//
//   ingot::Instance instance;
//   auto archive = ingot::Archive::map("model.ingot");
//   auto device = instance.open("local-sync");
//   auto session = device->prepare(*archive);
//   float in[4] = {1, 2, 3, 4}, out[4];
//   auto status = session->run({ingot::view(in, {2, 2})}, {ingot::view(out, {2, 2})});
//
// Handles are move-only. A handle that came from a failed call is empty, and calls on it return the same kind of
// Status as any other mistake: nothing is dereferenced.
#ifndef INGOT_INGOT_HPP_
#define INGOT_INGOT_HPP_

#include <cstddef>
#include <cstdint>
#include <new>

#include <ingot/ingot.h>

namespace ingot {

using ElementType = ingot_element_type_t;
using Tensor = ingot_tensor_t;

// A borrowed run of T.
template <class T> class Span {
public:
  constexpr Span() = default;
  constexpr Span(T *data, size_t size) : data_(data), size_(size) {}
  template <size_t N> constexpr Span(T (&array)[N]) : data_(array), size_(N) {}
  // From anything with data() and size(): std::vector, std::array, ...
  template <class C, class = decltype(static_cast<T *>(static_cast<C *>(nullptr)->data()))>
  constexpr Span(C &container) : data_(container.data()), size_(container.size()) {}
  constexpr T *data() const { return data_; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T &operator[](size_t i) const { return data_[i]; }
  constexpr T *begin() const { return data_; }
  constexpr T *end() const { return data_ + size_; }

private:
  T *data_ = nullptr;
  size_t size_ = 0;
};

// What a call came to. Converts to true where all went well.
class [[nodiscard]] Status {
public:
  Status() { error_.code = INGOT_OK; error_.message[0] = 0; }
  explicit Status(const ingot_error_t &error) { assign(error); }
  Status(const Status &other) { assign(other.error_); }
  Status &operator=(const Status &other) { assign(other.error_); return *this; }
  bool ok() const { return error_.code == INGOT_OK; }
  explicit operator bool() const { return ok(); }
  ingot_code_t code() const { return error_.code; }
  const char *code_name() const { return ingot_code_name(error_.code); }
  const char *message() const { return error_.message; } // "" where ok
  const ingot_error_t &error() const { return error_; }
  // For the classes below: where a C function writes its error.
  ingot_error_t *slot() { return &error_; }
  Status &set(ingot_code_t code) { error_.code = code; return *this; }

private:
  void assign(const ingot_error_t &from) {
    error_.code = from.code;
    size_t i = 0;
    if (from.code != INGOT_OK)
      for (; i + 1 < sizeof error_.message && from.message[i]; ++i) error_.message[i] = from.message[i];
    error_.message[i] = 0;
  }
  ingot_error_t error_; // message[0] = 0 where ok
};

#if defined(INGOT_EXCEPTIONS)
class Error : public std::exception {
public:
  explicit Error(const Status &status) : status_(status) {}
  const char *what() const noexcept override { return status_.message(); }
  const Status &status() const { return status_; }

private:
  Status status_;
};
#endif

// A value or the reason why there is none.
template <class T> class [[nodiscard]] Result {
public:
  Result(T &&value) : value_(static_cast<T &&>(value)) {}
  Result(const Status &status) : status_(status) {}
  Result(Result &&other) : value_(static_cast<T &&>(other.value_)), status_(other.status_) {}
  Result &operator=(Result &&other) {
    value_ = static_cast<T &&>(other.value_);
    status_ = other.status_;
    return *this;
  }
  bool ok() const { return status_.ok(); }
  explicit operator bool() const { return ok(); }
  const Status &status() const { return status_; }
  const char *message() const { return status_.message(); }
  // An empty handle where the call failed (with INGOT_EXCEPTIONS: throws).
  T &operator*() { check(); return value_; }
  const T &operator*() const { check(); return value_; }
  T *operator->() { check(); return &value_; }
  const T *operator->() const { check(); return &value_; }

private:
  void check() const {
#if defined(INGOT_EXCEPTIONS)
    if (!status_.ok()) throw Error(status_);
#endif
  }
  T value_{};
  Status status_;
};

namespace detail {
template <class T> struct ElementTypeOf; // no such tensor element type
template <class T> struct ElementTypeOf<const T> : ElementTypeOf<T> {};
#define INGOT_ELEMENT(cpp, name)                                                                                       \
  template <> struct ElementTypeOf<cpp> { static constexpr ElementType value = INGOT_ELEMENT_TYPE_##name; };
INGOT_ELEMENT(bool, BOOL)
INGOT_ELEMENT(int8_t, I8)
INGOT_ELEMENT(int16_t, I16)
INGOT_ELEMENT(int32_t, I32)
INGOT_ELEMENT(int64_t, I64)
INGOT_ELEMENT(uint8_t, U8)
INGOT_ELEMENT(uint16_t, U16)
INGOT_ELEMENT(uint32_t, U32)
INGOT_ELEMENT(uint64_t, U64)
INGOT_ELEMENT(float, F32)
INGOT_ELEMENT(double, F64)
#undef INGOT_ELEMENT

// Owns one reference to a C object.
template <class T, void (*Release)(T *)> class Handle {
public:
  Handle() = default;
  explicit Handle(T *object) : object_(object) {}
  Handle(Handle &&other) noexcept : object_(other.object_) { other.object_ = nullptr; }
  Handle &operator=(Handle &&other) noexcept {
    if (this != &other) {
      Release(object_);
      object_ = other.object_;
      other.object_ = nullptr;
    }
    return *this;
  }
  Handle(const Handle &) = delete;
  Handle &operator=(const Handle &) = delete;
  ~Handle() { Release(object_); }
  T *get() const { return object_; }
  T *release() { T *object = object_; object_ = nullptr; return object; } // the caller owns it now
  explicit operator bool() const { return object_ != nullptr; }

private:
  T *object_ = nullptr;
};

inline Tensor make_view(void *data, ElementType type, size_t capacity, const int64_t *dims, size_t rank) {
  Tensor tensor{};
  tensor.data = data;
  tensor.type = type;
  tensor.size = capacity;
  tensor.rank = static_cast<uint32_t>(rank);
  for (size_t i = 0; i < rank && i < INGOT_MAX_RANK; ++i) tensor.dims[i] = dims[i];
  return tensor;
}

// Bytes of a dense tensor; 0 where a dim is negative or the product overflows, which the run then refuses.
inline size_t byte_size(ElementType type, const int64_t *dims, size_t rank) {
  uint64_t count = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] < 0 || (dims[i] > 0 && count > UINT64_MAX / 16 / static_cast<uint64_t>(dims[i]))) return 0;
    count *= static_cast<uint64_t>(dims[i]);
  }
  return static_cast<size_t>((count * ingot_element_type_bits(type) + 7) / 8);
}
} // namespace detail

// Dense row-major tensors over memory of the caller's. A C array knows its size; behind a pointer, the memory must hold
// what the dims say.
template <class T, size_t N, size_t Rank> Tensor view(T (&array)[N], const int64_t (&dims)[Rank]) {
  return detail::make_view(const_cast<void *>(static_cast<const void *>(array)), detail::ElementTypeOf<T>::value,
                           sizeof array, dims, Rank);
}
template <class T, size_t Rank> Tensor view(T *const &data, const int64_t (&dims)[Rank]) {
  constexpr ElementType type = detail::ElementTypeOf<T>::value;
  return detail::make_view(const_cast<void *>(static_cast<const void *>(data)), type,
                           detail::byte_size(type, dims, Rank), dims, Rank);
}
// A scalar (rank 0).
template <class T> Tensor view(T &scalar) {
  return detail::make_view(const_cast<void *>(static_cast<const void *>(&scalar)), detail::ElementTypeOf<T>::value,
                           sizeof scalar, nullptr, 0);
}
// Any element type; `capacity` bytes at `data`. Dims of an output may be -1 where they depend on data.
inline Tensor view(void *data, size_t capacity, ElementType type, Span<const int64_t> dims) {
  return detail::make_view(data, type, capacity, dims.data(), dims.size());
}

using RunOptions = ingot_run_options_t;
using SemaphoreValue = ingot_semaphore_value_t;
using Executor = ingot_executor_t;
using DeviceOptions = ingot_device_options_t;

// A compiled model. Immutable; shared by any number of sessions and threads.
class Archive {
public:
  Archive() = default;
  explicit Archive(ingot_archive_t *owned) : handle_(owned) {}
  // Weights are used in place; see ingot_archive_map about files that somebody truncates meanwhile.
  static Result<Archive> map(const char *path, const ingot_allocator_t *allocator = nullptr) {
    Status status;
    ingot_archive_t *out = nullptr;
    status.set(ingot_archive_map(allocator, path, &out, status.slot()));
    return take(status, out);
  }
  // Everything is copied into memory.
  static Result<Archive> read(const char *path, const ingot_allocator_t *allocator = nullptr) {
    Status status;
    ingot_archive_t *out = nullptr;
    status.set(ingot_archive_read(allocator, path, &out, status.slot()));
    return take(status, out);
  }
  // From memory; with `borrow` the bytes stay the caller's and must outlive the archive.
  static Result<Archive> open(const void *data, size_t size, bool borrow = false,
                              const ingot_allocator_t *allocator = nullptr) {
    Status status;
    ingot_archive_t *out = nullptr;
    status.set(ingot_archive_open(allocator, data, size, borrow, &out, status.slot()));
    return take(status, out);
  }
  Status check_hashes() const {
    Status status;
    return status.set(ingot_archive_check_hashes(handle_.get(), status.slot()));
  }
  // INGOT_NONE where there is no such function.
  uint32_t function(const char *name) const { return ingot_archive_find_function(handle_.get(), name); }
  ingot_archive_t *get() const { return handle_.get(); }

private:
  static Result<Archive> take(const Status &status, ingot_archive_t *out) {
    if (!status) return status;
    Archive archive;
    archive.handle_ = detail::Handle<ingot_archive_t, ingot_archive_release>(out);
    return archive;
  }
  detail::Handle<ingot_archive_t, ingot_archive_release> handle_;
};

// A value that only grows, waited for by host and device. Create it on the device whose runs it orders.
class Semaphore {
public:
  Semaphore() = default;
  explicit Semaphore(ingot_semaphore_t *owned) : handle_(owned) {}
  Result<uint64_t> query() const {
    Status status;
    uint64_t value = 0;
    if (!status.set(ingot_semaphore_query(handle_.get(), &value, status.slot()))) return status;
    return static_cast<uint64_t &&>(value);
  }
  Status signal(uint64_t value) {
    Status status;
    return status.set(ingot_semaphore_signal(handle_.get(), value, status.slot()));
  }
  Status wait(uint64_t value, uint64_t timeout_ns = UINT64_MAX) const {
    Status status;
    return status.set(ingot_semaphore_wait(handle_.get(), value, timeout_ns, status.slot()));
  }
  ingot_semaphore_t *get() const { return handle_.get(); }
  SemaphoreValue at(uint64_t value) const { return {handle_.get(), value}; }

private:
  detail::Handle<ingot_semaphore_t, ingot_semaphore_release> handle_;
};

// Memory of a device, or host memory that it may use.
class Buffer {
public:
  Buffer() = default;
  explicit Buffer(ingot_buffer_t *owned) : handle_(owned) {}
  size_t size() const { return ingot_buffer_size(handle_.get()); }
  Status write(size_t offset, const void *data, size_t size) {
    Status status;
    return status.set(ingot_buffer_write(handle_.get(), offset, data, size, status.slot()));
  }
  Status read(size_t offset, void *data, size_t size) const {
    Status status;
    return status.set(ingot_buffer_read(handle_.get(), offset, data, size, status.slot()));
  }
  // A tensor in this buffer, from `offset` on.
  Tensor view(ElementType type, Span<const int64_t> dims, size_t offset = 0) const {
    Tensor tensor = detail::make_view(nullptr, type, offset <= size() ? size() - offset : 0, dims.data(), dims.size());
    tensor.buffer = handle_.get();
    tensor.buffer_offset = offset;
    return tensor;
  }
  ingot_buffer_t *get() const { return handle_.get(); }

private:
  detail::Handle<ingot_buffer_t, ingot_buffer_release> handle_;
};

// Arena, state and recordings of one stream of runs: one run at a time.
class Context {
public:
  Context() = default;
  explicit Context(ingot_context_t *owned) : handle_(owned) {}
  Status run(Span<const Tensor> inputs, Span<Tensor> outputs, const RunOptions *options = nullptr,
             uint32_t function = 0) {
    Status status;
    return status.set(ingot_context_run(handle_.get(), function, inputs.data(), inputs.size(), outputs.data(),
                                        outputs.size(), options, status.slot()));
  }
  template <size_t In, size_t Out> Status run(const Tensor (&inputs)[In], Tensor (&&outputs)[Out]) {
    return run(Span<const Tensor>(inputs, In), Span<Tensor>(outputs, Out));
  }
  Status submit(Span<const Tensor> inputs, Span<Tensor> outputs, Span<const SemaphoreValue> waits,
                Span<const SemaphoreValue> signals, const RunOptions *options = nullptr, uint32_t function = 0) {
    Status status;
    return status.set(ingot_context_submit(handle_.get(), function, inputs.data(), inputs.size(), outputs.data(),
                                           outputs.size(), waits.data(), waits.size(), signals.data(), signals.size(),
                                           options, status.slot()));
  }
  // Stops the run that another thread has under way.
  void cancel() { ingot_context_cancel(handle_.get()); }
  Status reset_state() {
    Status status;
    return status.set(ingot_context_reset_state(handle_.get(), status.slot()));
  }
  // All states as memory().state_bytes bytes, to go on from later: see ingot_context_read_state.
  Status read_state(Span<uint8_t> out) {
    Status status;
    return status.set(ingot_context_read_state(handle_.get(), out.data(), out.size(), status.slot()));
  }
  Status write_state(Span<const uint8_t> from) {
    Status status;
    return status.set(ingot_context_write_state(handle_.get(), from.data(), from.size(), status.slot()));
  }
  ingot_memory_info_t memory() const {
    ingot_memory_info_t info{};
    ingot_context_memory(handle_.get(), &info);
    return info;
  }
  ingot_context_t *get() const { return handle_.get(); }

private:
  detail::Handle<ingot_context_t, ingot_context_release> handle_;
};

// An archive prepared on a device: immutable, shared by threads.
class Session {
public:
  Session() = default;
  explicit Session(ingot_session_t *owned) : handle_(owned) {}
  // Runs and waits; threads that call it at once do not wait for each other.
  Status run(Span<const Tensor> inputs, Span<Tensor> outputs, uint32_t function = 0) {
    Status status;
    return status.set(ingot_session_run(handle_.get(), function, inputs.data(), inputs.size(), outputs.data(),
                                        outputs.size(), status.slot()));
  }
  template <size_t In, size_t Out> Status run(const Tensor (&inputs)[In], Tensor (&&outputs)[Out]) {
    return run(Span<const Tensor>(inputs, In), Span<Tensor>(outputs, Out));
  }
  template <size_t In> Status run(const Tensor (&inputs)[In], Span<Tensor> outputs) {
    return run(Span<const Tensor>(inputs, In), outputs);
  }
  // Fills type, rank, dims and size of each output from the inputs; the caller then provides the memory.
  Status infer(Span<const Tensor> inputs, Span<Tensor> outputs, uint32_t function = 0) const {
    Status status;
    return status.set(ingot_session_infer(handle_.get(), function, inputs.data(), inputs.size(), outputs.data(),
                                          outputs.size(), status.slot()));
  }
  Result<Context> context() {
    Status status;
    ingot_context_t *out = nullptr;
    if (!status.set(ingot_context_create(handle_.get(), &out, status.slot()))) return status;
    return Context(out);
  }
  // Index of the function of that name, or INGOT_NONE.
  uint32_t function(const char *name) const {
    return ingot_archive_find_function(ingot_session_archive(handle_.get()), name);
  }
  // Starts a run on a context that the session keeps for this: one such run at a time (INGOT_BUSY otherwise).
  Status submit(Span<const Tensor> inputs, Span<Tensor> outputs, Span<const SemaphoreValue> waits,
                Span<const SemaphoreValue> signals, uint32_t function = 0) {
    Status status;
    return status.set(ingot_session_submit(handle_.get(), function, inputs.data(), inputs.size(), outputs.data(),
                                           outputs.size(), waits.data(), waits.size(), signals.data(), signals.size(),
                                           status.slot()));
  }
  ingot_session_t *get() const { return handle_.get(); }

private:
  detail::Handle<ingot_session_t, ingot_session_release> handle_;
};

class Device {
public:
  Device() = default;
  explicit Device(ingot_device_t *owned) : handle_(owned) {}
  const char *uri() const { return ingot_device_uri(handle_.get()); }
  // Everything slow happens here, once.
  Result<Session> prepare(const Archive &archive) const {
    Status status;
    ingot_session_t *out = nullptr;
    if (!status.set(ingot_session_prepare(handle_.get(), archive.get(), &out, status.slot()))) return status;
    return Session(out);
  }
  Result<Semaphore> semaphore(uint64_t value = 0) const {
    Status status;
    ingot_semaphore_t *out = nullptr;
    if (!status.set(ingot_semaphore_create(handle_.get(), value, &out, status.slot()))) return status;
    return Semaphore(out);
  }
  Result<Buffer> allocate(size_t size) const {
    Status status;
    ingot_buffer_t *out = nullptr;
    if (!status.set(ingot_buffer_allocate(handle_.get(), size, &out, status.slot()))) return status;
    return Buffer(out);
  }
  Result<Buffer> import(void *data, size_t size) const {
    Status status;
    ingot_buffer_t *out = nullptr;
    if (!status.set(ingot_buffer_import(handle_.get(), data, size, &out, status.slot()))) return status;
    return Buffer(out);
  }
  ingot_device_t *get() const { return handle_.get(); }

private:
  detail::Handle<ingot_device_t, ingot_device_release> handle_;
};

// Where everything starts; keeps no global state.
class Instance {
public:
  Instance() { status_.set(ingot_instance_create(nullptr, &object_, status_.slot())); }
  explicit Instance(const ingot_allocator_t &allocator) {
    status_.set(ingot_instance_create(&allocator, &object_, status_.slot()));
  }
  Instance(const Instance &) = delete;
  Instance &operator=(const Instance &) = delete;
  ~Instance() { ingot_instance_release(object_); }
  const Status &status() const { return status_; }
  // The first of the URIs whose device is there.
  template <class... Uris> Result<Device> open(const char *first, Uris... more) const {
    const char *uris[] = {first, more...};
    return open(Span<const char *const>(uris, 1 + sizeof...(more)), nullptr);
  }
  // The first whose device is there and can run the archive.
  template <class... Uris> Result<Device> open(const Archive &archive, const char *first, Uris... more) const {
    const char *uris[] = {first, more...};
    return open(Span<const char *const>(uris, 1 + sizeof...(more)), archive.get());
  }
  Result<Device> open(Span<const char *const> uris, const ingot_archive_t *archive,
                      const DeviceOptions *options = nullptr) const {
    Status status;
    ingot_device_t *out = nullptr;
    if (!status.set(ingot_device_open_with(object_, uris.data(), uris.size(), archive, options, &out, status.slot())))
      return status;
    return Device(out);
  }
  // With options: an executor, so that local-task uses the application's threads.
  template <class... Uris> Result<Device> open_with(const DeviceOptions &options, const char *first, Uris... more) const {
    const char *uris[] = {first, more...};
    return open(Span<const char *const>(uris, 1 + sizeof...(more)), nullptr, &options);
  }
  ingot_instance_t *get() const { return object_; }

private:
  ingot_instance_t *object_ = nullptr;
  Status status_;
};

} // namespace ingot

#endif // INGOT_INGOT_HPP_
