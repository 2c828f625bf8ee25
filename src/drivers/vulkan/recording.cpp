// Streams and recordings: command buffers, and the timeline that says how far the queue has come.
#include "src/drivers/vulkan/vulkan.h"

#include "schemas/cpu_abi.h"

using namespace ingot;
using namespace ingot::vulkan;

ingot_driver_stream_t::~ingot_driver_stream_t() {
  if (last) wait_timeline(*device, last, UINT64_MAX, nullptr);
  device->vk.DestroyCommandPool(device->device, pool, nullptr);
  if (errors) release(device, errors);
}

ingot_driver_recording_t::~ingot_driver_recording_t() {
  ingot_driver_device_t &d = *stream->device;
  if (last) wait_timeline(d, last, UINT64_MAX, nullptr);
  if (commands) d.vk.FreeCommandBuffers(d.device, stream->pool, 1, &commands);
  d.vk.DestroyDescriptorPool(d.device, descriptors, nullptr);
  d.vk.DestroyQueryPool(d.device, queries, nullptr);
  if (patterns) release(&d, patterns);
}

namespace ingot::vulkan {
namespace {

constexpr uint32_t kPatternBytes = 256; // of a fill that vkCmdFillBuffer cannot do

// The first failure stays, and recording_end tells it.
void note(ingot_driver_recording_t &r, VkResult result, const char *what) {
  if (result != VK_SUCCESS && r.error.code == INGOT_OK) failed(&r.error, result, what);
}

void memory_barrier(ingot_driver_recording_t &r, VkPipelineStageFlags to, VkAccessFlags access) {
  auto barrier = make<VkMemoryBarrier>(VK_STRUCTURE_TYPE_MEMORY_BARRIER);
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  barrier.dstAccessMask = access;
  r.stream->device->vk.CmdPipelineBarrier(r.commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, to, 0,
                                          1, &barrier, 0, nullptr, 0, nullptr);
}
void barrier_between(ingot_driver_recording_t &r) {
  memory_barrier(r, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                 VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
}

Code validated(ingot_driver_device_t &d, Error *error) {
  if (!d.validation) return INGOT_OK;
  platform::Lock lock(d.messages.mutex);
  if (d.messages.count == 0) return INGOT_OK;
  return fail(error, INGOT_INTERNAL, "vulkan: %u messages of the validation layer; the first: %s", d.messages.count, d.messages.first);
}

// Tells of each dispatch of a recording that has run.
void report(ingot_driver_recording_t &r, const ingot_driver_submit_t &s) {
  ingot_driver_device_t &d = *r.stream->device;
  const double period = double(d.physical.properties.limits.timestampPeriod);
  for (uint32_t i = 0; i < r.dispatch_count; ++i) {
    const ingot_driver_recording_t::Dispatch &c = r.dispatches[i];
    uint64_t ticks[2] = {};
    if (r.queries)
      d.vk.GetQueryPoolResults(d.device, r.queries, 2 * i, 2, sizeof ticks, ticks, sizeof *ticks,
                               VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    const ingot_driver_timing_t timing = {c.kernel, c.site, r.stream->executable->pipelines[c.kernel].version,
                                          {c.grid[0], c.grid[1], c.grid[2]}, uint64_t(double(ticks[0]) * period),
                                          uint64_t(double(ticks[1]) * period)};
    s.on_dispatch(s.user, &timing);
  }
}

Code fill_recording(ingot_driver_recording_t &r, const ingot_driver_recording_size_t &size, Error *error) {
  ingot_driver_device_t &d = *r.stream->device;
  INGOT_TRY(r.dispatches.create(d.allocator, size.dispatches, "a recording", error));
  auto info = make<VkCommandBufferAllocateInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO);
  info.commandPool = r.stream->pool;
  info.commandBufferCount = 1;
  INGOT_VK_TRY(d.vk.AllocateCommandBuffers(d.device, &info, &r.commands), "vkAllocateCommandBuffers");
  if (size.dispatches) {
    const VkDescriptorPoolSize buffers = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, size.bindings + size.dispatches};
    auto pool = make<VkDescriptorPoolCreateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO);
    pool.maxSets = size.dispatches;
    pool.poolSizeCount = 1;
    pool.pPoolSizes = &buffers;
    INGOT_VK_TRY(d.vk.CreateDescriptorPool(d.device, &pool, nullptr, &r.descriptors), "vkCreateDescriptorPool");
  }
  if (size.fills) INGOT_TRY(allocate(&d, INGOT_MEMORY_DEVICE, uint64_t(size.fills) * kPatternBytes, &r.patterns, error));
  return INGOT_OK;
}

} // namespace

Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error) {
  ingot_driver_stream_t *s = create_object<ingot_driver_stream_t>(device->allocator, "a stream", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  s->device = device;
  s->executable = executable;
  const auto fill = [&]() -> Code {
    auto pool = make<VkCommandPoolCreateInfo>(VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO);
    pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
    pool.queueFamilyIndex = device->physical.queue_family;
    INGOT_VK_TRY(device->vk.CreateCommandPool(device->device, &pool, nullptr, &s->pool), "vkCreateCommandPool");
    INGOT_TRY(allocate(device, INGOT_MEMORY_READBACK, 256, &s->errors, error));
    void *word = nullptr;
    INGOT_TRY(map(device, s->errors, &word, error));
    s->error_word = static_cast<uint32_t *>(word);
    *s->error_word = 0;
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    destroy_object(device->allocator, s);
    return code;
  }
  *out = s;
  return INGOT_OK;
}

void stream_destroy(ingot_driver_stream_t *s) { destroy_object(s->device->allocator, s); }

Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out,
                      Error *error) {
  ingot_driver_device_t &d = *stream->device;
  ingot_driver_recording_t *r = create_object<ingot_driver_recording_t>(d.allocator, "a recording", error);
  if (!r) return INGOT_OUT_OF_MEMORY;
  r->stream = stream;
  if (const Code code = fill_recording(*r, *size, error)) {
    destroy_object(d.allocator, r);
    return code;
  }
  *out = r;
  return INGOT_OK;
}

void recording_destroy(ingot_driver_recording_t *r) { destroy_object(r->stream->device->allocator, r); }

void recording_begin(ingot_driver_recording_t *recording, bool timed) {
  ingot_driver_recording_t &r = *recording;
  ingot_driver_device_t &d = *r.stream->device;
  r.error = {};
  r.dispatch_count = r.fill_count = 0;
  r.timed = timed && d.physical.properties.limits.timestampComputeAndGraphics;
  if (r.descriptors) d.vk.ResetDescriptorPool(d.device, r.descriptors, 0);
  if (r.timed && !r.queries && r.dispatches.size()) {
    auto queries = make<VkQueryPoolCreateInfo>(VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO);
    queries.queryType = VK_QUERY_TYPE_TIMESTAMP;
    queries.queryCount = uint32_t(2 * r.dispatches.size());
    note(r, d.vk.CreateQueryPool(d.device, &queries, nullptr, &r.queries), "vkCreateQueryPool");
  }
  auto begin = make<VkCommandBufferBeginInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO);
  begin.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
  note(r, d.vk.BeginCommandBuffer(r.commands, &begin), "vkBeginCommandBuffer");
  barrier_between(r); // what earlier recordings wrote
  if (r.timed && r.queries) d.vk.CmdResetQueryPool(r.commands, r.queries, 0, uint32_t(2 * r.dispatches.size()));
}

void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch) {
  ingot_driver_recording_t &r = *recording;
  ingot_driver_device_t &d = *r.stream->device;
  ingot_driver_executable_t &e = *r.stream->executable;
  const ingot_driver_executable_t::Pipeline &p = e.pipelines[dispatch->kernel];
  const VkPhysicalDeviceLimits &limits = d.physical.properties.limits;
  if (r.error.code != INGOT_OK) return;
  for (uint32_t i = 0; i < 3; ++i)
    if (dispatch->grid[i] > limits.maxComputeWorkGroupCount[i]) {
      fail(&r.error, INGOT_OUT_OF_RANGE, "vulkan: a dispatch of kernel %u has %u workgroups in dimension %u, the device takes %u",
           dispatch->kernel, dispatch->grid[i], i, limits.maxComputeWorkGroupCount[i]);
      return;
    }
  VkDescriptorSet set = VK_NULL_HANDLE;
  if (p.bindings) {
    auto info = make<VkDescriptorSetAllocateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO);
    info.descriptorPool = r.descriptors;
    info.descriptorSetCount = 1;
    info.pSetLayouts = &e.set_layouts[p.bindings];
    note(r, d.vk.AllocateDescriptorSets(d.device, &info, &set), "vkAllocateDescriptorSets");
    VkDescriptorBufferInfo buffers[65];
    for (uint32_t i = 0; i < dispatch->binding_count; ++i) {
      const ingot_driver_span_t &b = dispatch->bindings[i];
      const uint64_t range = align_up(b.length, 4);
      if (range > limits.maxStorageBufferRange) {
        fail(&r.error, INGOT_OUT_OF_RANGE, "vulkan: kernel %u binds %llu bytes, the device takes %u", dispatch->kernel,
             (unsigned long long)range, limits.maxStorageBufferRange);
        return;
      }
      // A binding without bytes is never accessed, but must be there.
      buffers[i] = b.length ? VkDescriptorBufferInfo{b.memory->buffer, b.memory->base + b.offset, range}
                            : VkDescriptorBufferInfo{r.stream->errors->buffer, 128, 4};
    }
    if (p.errors) buffers[p.bindings - 1] = {r.stream->errors->buffer, 0, 4};
    if (r.error.code != INGOT_OK) return;
    auto update = make<VkWriteDescriptorSet>(VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET);
    update.dstSet = set;
    update.descriptorCount = p.bindings;
    update.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    update.pBufferInfo = buffers;
    d.vk.UpdateDescriptorSets(d.device, 1, &update, 0, nullptr);
    d.vk.CmdBindDescriptorSets(r.commands, VK_PIPELINE_BIND_POINT_COMPUTE, e.layouts[dispatch->kernel], 0, 1, &set, 0, nullptr);
  }
  d.vk.CmdBindPipeline(r.commands, VK_PIPELINE_BIND_POINT_COMPUTE, p.pipeline);
  if (dispatch->param_count) {
    uint32_t words[64];
    for (uint32_t i = 0; i < dispatch->param_count; ++i) {
      const int64_t value = dispatch->params[i];
      if (value != int32_t(value)) {
        fail(&r.error, INGOT_OUT_OF_RANGE, "vulkan: parameter %u of kernel %u is %lld, which does not fit 32 bits", i,
             dispatch->kernel, (long long)value);
        return;
      }
      words[i] = uint32_t(value);
    }
    d.vk.CmdPushConstants(r.commands, e.layouts[dispatch->kernel], VK_SHADER_STAGE_COMPUTE_BIT, 0, 4 * dispatch->param_count, words);
  }
  const uint32_t number = r.dispatch_count++;
  r.dispatches[number] = {dispatch->kernel, dispatch->site, {dispatch->grid[0], dispatch->grid[1], dispatch->grid[2]}};
  const bool timed = r.timed && r.queries;
  if (timed) {
    barrier_between(r); // one after the other
    d.vk.CmdWriteTimestamp(r.commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, r.queries, 2 * number);
  }
  d.vk.CmdDispatch(r.commands, dispatch->grid[0], dispatch->grid[1], dispatch->grid[2]);
  if (timed) d.vk.CmdWriteTimestamp(r.commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, r.queries, 2 * number + 1);
}

void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  if (target->length == 0) return;
  const VkBufferCopy region = {source->memory->base + source->offset, target->memory->base + target->offset, target->length};
  r->stream->device->vk.CmdCopyBuffer(r->commands, source->memory->buffer, target->memory->buffer, 1, &region);
}

void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes) {
  ingot_driver_recording_t &r = *recording;
  const DeviceTable &vk = r.stream->device->vk;
  if (target->length == 0) return;
  const uint64_t begin = target->memory->base + target->offset;
  for (uint32_t bytes = pattern_bytes; bytes < 8; bytes *= 2) // to 8 bytes
    pattern = (bytes == 4 ? pattern & 0xffffffff : pattern & ((uint64_t(1) << 8 * bytes) - 1)) * ((uint64_t(1) << 8 * bytes) + 1);
  if (uint32_t(pattern) == uint32_t(pattern >> 32) && begin % 4 == 0 && target->length % 4 == 0) {
    vk.CmdFillBuffer(r.commands, target->memory->buffer, begin, target->length, uint32_t(pattern));
    return;
  }
  // vkCmdFillBuffer knows words only: a piece of the pattern is copied, then doubled.
  uint64_t piece[kPatternBytes / 8];
  for (uint64_t &p : piece) p = pattern;
  const uint64_t scratch = uint64_t(r.fill_count++) * kPatternBytes;
  vk.CmdUpdateBuffer(r.commands, r.patterns->buffer, scratch, sizeof piece, piece);
  barrier_between(r);
  uint64_t done = target->length < sizeof piece ? target->length : sizeof piece;
  const VkBufferCopy first = {scratch, begin, done};
  vk.CmdCopyBuffer(r.commands, r.patterns->buffer, target->memory->buffer, 1, &first);
  while (done < target->length) {
    barrier_between(r);
    const uint64_t n = target->length - done < done ? target->length - done : done;
    const VkBufferCopy next = {begin, begin + done, n};
    vk.CmdCopyBuffer(r.commands, target->memory->buffer, target->memory->buffer, 1, &next);
    done += n;
  }
}

void record_barrier(ingot_driver_recording_t *r) { barrier_between(*r); }

Code recording_end(ingot_driver_recording_t *r, Error *error) {
  memory_barrier(*r, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
  note(*r, r->stream->device->vk.EndCommandBuffer(r->commands), "vkEndCommandBuffer");
  if (r->error.code == INGOT_OK) return INGOT_OK;
  *error = r->error;
  return error->code;
}

Code submit_commands(ingot_driver_device_t &d, const VkCommandBuffer *commands, uint32_t count, uint64_t *value, Error *error) {
  if (d.lost.load(std::memory_order_relaxed)) return failed(error, VK_ERROR_DEVICE_LOST, "submitting");
  platform::Lock lock(d.queue_mutex);
  const uint64_t next = d.submissions + 1;
  auto timeline = make<VkTimelineSemaphoreSubmitInfo>(VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
  timeline.signalSemaphoreValueCount = 1;
  timeline.pSignalSemaphoreValues = &next;
  auto info = make<VkSubmitInfo>(VK_STRUCTURE_TYPE_SUBMIT_INFO);
  info.pNext = &timeline;
  info.commandBufferCount = count;
  info.pCommandBuffers = commands;
  info.signalSemaphoreCount = 1;
  info.pSignalSemaphores = &d.timeline;
  if (d.lock) d.lock(d.lock_user);
  const VkResult result = d.vk.QueueSubmit(d.queue, 1, &info, VK_NULL_HANDLE);
  if (d.unlock) d.unlock(d.lock_user);
  if (result == VK_ERROR_DEVICE_LOST) d.lost.store(true, std::memory_order_relaxed);
  INGOT_VK_TRY(result, "vkQueueSubmit");
  d.submissions = *value = next;
  return INGOT_OK;
}

Code wait_timeline(ingot_driver_device_t &d, uint64_t value, uint64_t timeout_ns, Error *error) {
  if (d.lost.load(std::memory_order_relaxed)) return failed(error, VK_ERROR_DEVICE_LOST, "waiting");
  auto info = make<VkSemaphoreWaitInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO);
  info.semaphoreCount = 1;
  info.pSemaphores = &d.timeline;
  info.pValues = &value;
  const VkResult result = d.vk.WaitSemaphoresKHR(d.device, &info, timeout_ns);
  if (result == VK_TIMEOUT) return INGOT_DEADLINE_EXCEEDED;
  if (result == VK_ERROR_DEVICE_LOST) d.lost.store(true, std::memory_order_relaxed);
  INGOT_VK_TRY(result, "vkWaitSemaphores");
  return INGOT_OK;
}

// Waits for all that was submitted to the stream, unless the run is given up meanwhile.
static Code await(ingot_driver_stream_t &stream, const ingot_driver_submit_t &s, Error *error) {
  constexpr uint64_t kSlice = 2'000'000; // how long a cancel may go unnoticed, ns
  ingot_driver_device_t &d = *stream.device;
  for (;;) {
    const Code code = stream.last ? wait_timeline(d, stream.last, kSlice, error) : INGOT_OK;
    if (code != INGOT_DEADLINE_EXCEEDED) return code;
    if (raised(s.cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
    if (s.deadline_ns && d.now_ns() > s.deadline_ns) return fail(error, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
  }
}

Code submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *s,
            Error *error) {
  constexpr uint32_t kMost = 8; // the runtime submits three at a time
  if (raised(s->cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
  for (uint32_t from = 0; from < count; from += kMost) {
    VkCommandBuffer commands[kMost];
    const uint32_t n = count - from < kMost ? count - from : kMost;
    for (uint32_t i = 0; i < n; ++i) commands[i] = recordings[from + i]->commands;
    INGOT_TRY(submit_commands(*stream->device, commands, n, &stream->last, error));
    for (uint32_t i = 0; i < n; ++i) recordings[from + i]->last = stream->last;
  }
  if (!s->on_dispatch) return INGOT_OK;
  INGOT_TRY(await(*stream, *s, error));
  for (uint32_t i = 0; i < count; ++i) report(*recordings[i], *s);
  return INGOT_OK;
}

Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *s, Error *error) {
  INGOT_TRY(await(*stream, *s, error));
  const uint32_t word = *const_cast<volatile uint32_t *>(stream->error_word);
  *stream->error_word = 0;
  INGOT_TRY(validated(*stream->device, error));
  return word ? gpu_kernel_error(word, s, error) : INGOT_OK;
}

} // namespace ingot::vulkan
