// SPIR-V: module frame, memory and structured control flow. See emitter.h.
//
// A `for` becomes header (phis, test, OpLoopMerge), body, continue block; an `if` becomes OpSelectionMerge and phis. A
// region may end in another block than it began in, so phis take block_ as it stands when the region is done.
#include "aotc/emit/spirv/emitter.h"

#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/emit/spirv/spirv.h"

namespace ingot::aotc::emit {

std::vector<uint32_t> emit_spirv(const kernel::Kernel &kernel, const TargetRecord &record) {
  return spv::SpirvEmitter(kernel, record).run();
}

namespace spv {

using kernel::Access;
using kernel::Memory;
using kernel::Op;
using kernel::Opcode;
using kernel::Region;
using kernel::Space;
using kernel::ValueId;

namespace {

bool has_op(const Region &region, const std::function<bool(const Op &)> &test) {
  return std::any_of(region.ops.begin(), region.ops.end(), [&](const Op &op) {
    return test(op) || std::any_of(op.regions.begin(), op.regions.end(),
                                   [&](const Region &inner) { return has_op(inner, test); });
  });
}

} // namespace

SpirvEmitter::SpirvEmitter(const kernel::Kernel &kernel, const TargetRecord &record)
    : kernel_(kernel), record_(record), ids_(kernel.types.size(), 0), positive_(kernel.types.size(), false) {}

std::vector<uint32_t> SpirvEmitter::run() {
  block_ = module_.first_block();
  declare_memories();
  declare_params();
  // Built-in values are loaded once, at the top, where they dominate every use.
  std::vector<BuiltIn> used;
  auto note = [&](BuiltIn which) {
    if (std::find(used.begin(), used.end(), which) == used.end())
      used.push_back(which);
  };
  has_op(kernel_.body, [&](const Op &op) {
    if (op.code == Opcode::kGroupId)
      note(kWorkgroupId);
    else if (op.code == Opcode::kLocalId)
      note(kLocalInvocationId);
    else if (op.code == Opcode::kGridSize)
      note(kNumWorkgroups);
    return false;
  });
  Id vector = module_.type_vector(module_.type_int(32), 3);
  for (BuiltIn which : used) {
    Id variable = module_.global(kInput, module_.type_pointer(kInput, vector));
    module_.decorate(variable, kBuiltIn, {which});
    interface_.push_back(variable);
    builtins_.emplace_back(which, module_.emit_value(Inst::Load, vector, {variable}));
  }
  region(kernel_.body, nullptr);
  return module_.finish(kernel_.name, kernel_.local_size, interface_);
}

uint32_t SpirvEmitter::bits(Scalar scalar) const {
  return scalar == Scalar::kIndex ? record_.index_bits : bit_width(scalar);
}

Id SpirvEmitter::scalar_type(Scalar scalar) {
  switch (scalar) {
  case Scalar::kBool: return module_.type_bool();
  case Scalar::kF16: module_.capability(kFloat16); return module_.type_float(16);
  case Scalar::kF32: return module_.type_float(32);
  case Scalar::kF64: module_.capability(kFloat64); return module_.type_float(64);
  case Scalar::kBF16: throw InternalError("spirv: kernel '" + kernel_.name + "': bf16 was not legalised");
  default: break;
  }
  uint32_t width = bits(scalar);
  if (width == 8)
    module_.capability(kInt8);
  else if (width == 16)
    module_.capability(kInt16);
  else if (width == 64)
    module_.capability(kInt64);
  return module_.type_int(width);
}

Id SpirvEmitter::type(Type type) {
  ensure(type.lanes <= 4, "spirv: vectors have at most 4 lanes");
  Id scalar = scalar_type(type.scalar);
  return type.lanes == 1 ? scalar : module_.type_vector(scalar, type.lanes);
}

Type SpirvEmitter::int_like(Type type) const {
  switch (bits(type.scalar)) {
  case 8: return Type(Scalar::kI8, type.lanes);
  case 16: return Type(Scalar::kI16, type.lanes);
  case 64: return Type(Scalar::kI64, type.lanes);
  default: return Type(Scalar::kI32, type.lanes);
  }
}

Id SpirvEmitter::lane_broadcast(Id scalar, Type type) {
  if (type.lanes == 1)
    return scalar;
  return module_.emit_value(Inst::CompositeConstruct, this->type(type), std::vector<Id>(type.lanes, scalar));
}

Id SpirvEmitter::value(ValueId id) const {
  ensure(id < ids_.size() && ids_[id], "spirv: kernel '" + kernel_.name + "': a value is used before it is defined");
  return ids_[id];
}

void SpirvEmitter::declare_memories() {
  bool barriers = has_op(kernel_.body, [](const Op &op) { return op.code == Opcode::kBarrier; });
  uint32_t binding = 0;
  for (const Memory &memory : kernel_.memories) {
    if (memory.space == Space::kBuffer) {
      // Bool buffers hold one byte an element; the value is tested on load.
      Scalar stored = memory.type == Scalar::kBool ? Scalar::kI8 : memory.type;
      uint32_t width = bits(stored);
      if (width == 8) {
        module_.capability(kStorageBuffer8BitAccess);
        module_.extension("SPV_KHR_8bit_storage");
      } else if (width == 16) {
        module_.capability(kStorageBuffer16BitAccess);
      }
      Id element = scalar_type(stored);
      Id array = module_.unique_type(Inst::TypeRuntimeArray, {element});
      module_.decorate(array, kArrayStride, {width / 8});
      Id block = module_.unique_type(Inst::TypeStruct, {array});
      module_.decorate(block, kBlock);
      module_.decorate_member(block, 0, kOffset, {0});
      if (memory.access == Access::kRead)
        module_.decorate_member(block, 0, kNonWritable);
      // Without the Vulkan memory model a buffer has to be coherent for a barrier to pass its writes on.
      if (barriers && memory.access == Access::kReadWrite)
        module_.decorate_member(block, 0, kCoherent);
      Id variable = module_.global(kStorageBuffer, module_.type_pointer(kStorageBuffer, block));
      module_.decorate(variable, kDescriptorSet, {0});
      module_.decorate(variable, kBinding, {binding++});
      module_.decorate(variable, kRestrict); // buffers never overlap
      module_.name(variable, memory.name);
      memory_ids_.push_back(variable);
      memory_elements_.push_back(element);
    } else {
      StorageClass storage = memory.space == Space::kWorkgroup ? kWorkgroup : kFunction;
      Id element = scalar_type(memory.type);
      ensure(memory.count > 0 && memory.count <= UINT32_MAX, "spirv: an array without elements");
      Id array = module_.unique_type(Inst::TypeArray, {element, module_.constant_u32(static_cast<uint32_t>(memory.count))});
      Id pointer = module_.type_pointer(storage, array);
      Id variable = storage == kWorkgroup ? module_.global(kWorkgroup, pointer) : module_.local(pointer);
      module_.name(variable, memory.name);
      memory_ids_.push_back(variable);
      memory_elements_.push_back(element);
    }
  }
  if (has_error_ops(kernel_)) {
    Id word = module_.type_int(32);
    Id array = module_.unique_type(Inst::TypeRuntimeArray, {word});
    module_.decorate(array, kArrayStride, {4});
    Id block = module_.unique_type(Inst::TypeStruct, {array});
    module_.decorate(block, kBlock);
    module_.decorate_member(block, 0, kOffset, {0});
    error_ = module_.global(kStorageBuffer, module_.type_pointer(kStorageBuffer, block));
    module_.decorate(error_, kDescriptorSet, {0});
    module_.decorate(error_, kBinding, {error_binding(kernel_, false)});
    module_.name(error_, "error_word");
  }
}

void SpirvEmitter::declare_params() {
  if (kernel_.params.empty())
    return;
  ParamLayout layout = param_layout(kernel_);
  std::vector<Id> members;
  for (const kernel::Param &param : kernel_.params)
    members.push_back(scalar_type(param.type));
  Id block = module_.unique_type(Inst::TypeStruct, members);
  module_.decorate(block, kBlock);
  for (size_t i = 0; i < members.size(); ++i)
    module_.decorate_member(block, static_cast<uint32_t>(i), kOffset, {layout.offsets[i]});
  params_ = module_.global(kPushConstant, module_.type_pointer(kPushConstant, block));
  module_.name(params_, "params");
}

void SpirvEmitter::start_block(Id label) {
  module_.emit(Inst::Label, {label});
  block_ = label;
}

// Emits the region's ops; gives the values that its yield passes on. The label where it ends is block_.
Id SpirvEmitter::region(const Region &region, std::vector<Id> *yielded) {
  for (const Op &inner : region.ops) {
    if (inner.code == Opcode::kYield) {
      if (yielded)
        for (ValueId id : inner.operands)
          yielded->push_back(value(id));
      break;
    }
    op(inner);
  }
  return block_;
}

void SpirvEmitter::emit_if(const Op &op) {
  Id then_label = module_.fresh(), else_label = module_.fresh(), merge = module_.fresh();
  module_.emit(Inst::SelectionMerge, {merge, 0});
  module_.emit(Inst::BranchConditional, {value(op.operands[0]), then_label, else_label});
  std::vector<Id> then_values, else_values;
  start_block(then_label);
  Id then_end = region(op.regions[0], &then_values);
  module_.emit(Inst::Branch, {merge});
  start_block(else_label);
  Id else_end = region(op.regions[1], &else_values);
  module_.emit(Inst::Branch, {merge});
  start_block(merge);
  for (size_t i = 0; i < op.results.size(); ++i)
    ids_[op.results[i]] = module_.emit_value(Inst::Phi, type(kernel_.type_of(op.results[i])),
                                             {then_values[i], then_end, else_values[i], else_end});
}

void SpirvEmitter::emit_for(const Op &op) {
  const Region &body = op.regions[0];
  Type index_type = kernel_.type_of(op.operands[0]);
  Id lo = value(op.operands[0]), hi = value(op.operands[1]), step = value(op.operands[2]);
  Id before = block_, header = module_.fresh(), body_label = module_.fresh(), next = module_.fresh(),
     merge = module_.fresh();
  module_.emit(Inst::Branch, {header});

  // The phis name what the body yields, which is not known yet: ids are reserved for it now and defined in the
  // continue block.
  std::vector<Id> carried, carried_next;
  start_block(header);
  Id i_next = module_.fresh();
  Id i = module_.emit_value(Inst::Phi, type(index_type), {lo, before, i_next, next});
  ids_[body.params[0]] = i;
  for (size_t k = 3; k < op.operands.size(); ++k) {
    Id after = module_.fresh();
    Id phi = module_.emit_value(Inst::Phi, type(kernel_.type_of(op.operands[k])), {value(op.operands[k]), before, after, next});
    ids_[body.params[k - 2]] = phi;
    carried.push_back(phi);
    carried_next.push_back(after);
  }
  Id more = module_.emit_value(Inst::SLessThan, module_.type_bool(), {i, hi});
  bool unroll = op.unroll == 0;
  module_.emit(Inst::LoopMerge, {merge, next, unroll ? kLoopControlUnroll : kLoopControlNone});
  module_.emit(Inst::BranchConditional, {more, body_label, merge});

  start_block(body_label);
  std::vector<Id> yielded;
  Id body_end = region(body, &yielded);
  module_.emit(Inst::Branch, {next});
  start_block(next);
  // A phi with one predecessor renames the yielded value to the reserved id.
  for (size_t k = 0; k < carried.size(); ++k)
    module_.emit(Inst::Phi, {type(kernel_.type_of(op.operands[k + 3])), carried_next[k], yielded[k], body_end});
  module_.emit(Inst::IAdd, {type(index_type), i_next, i, step});
  module_.emit(Inst::Branch, {header});
  start_block(merge);
  for (size_t k = 0; k < carried.size(); ++k)
    ids_[op.results[k]] = carried[k];
}

void SpirvEmitter::emit_while(const Op &op) {
  const Region &test = op.regions[0], &body = op.regions[1];
  Id before = block_, header = module_.fresh(), test_label = module_.fresh(), body_label = module_.fresh(),
     next = module_.fresh(), merge = module_.fresh();
  module_.emit(Inst::Branch, {header});
  start_block(header);
  std::vector<Id> carried_next;
  for (size_t k = 0; k < op.operands.size(); ++k) {
    carried_next.push_back(module_.fresh());
    ids_[test.params[k]] = module_.emit_value(Inst::Phi, type(kernel_.type_of(op.operands[k])),
                                              {value(op.operands[k]), before, carried_next[k], next});
  }
  module_.emit(Inst::LoopMerge, {merge, next, kLoopControlNone});
  module_.emit(Inst::Branch, {test_label});
  start_block(test_label);
  std::vector<Id> tested;
  region(test, &tested);
  module_.emit(Inst::BranchConditional, {tested[0], body_label, merge});
  for (size_t k = 0; k < body.params.size(); ++k)
    ids_[body.params[k]] = tested[k + 1];
  start_block(body_label);
  std::vector<Id> yielded;
  Id body_end = region(body, &yielded);
  module_.emit(Inst::Branch, {next});
  start_block(next);
  for (size_t k = 0; k < carried_next.size(); ++k)
    module_.emit(Inst::Phi, {type(kernel_.type_of(op.operands[k])), carried_next[k], yielded[k], body_end});
  module_.emit(Inst::Branch, {header});
  start_block(merge);
  for (size_t k = 0; k < op.results.size(); ++k)
    ids_[op.results[k]] = tested[k + 1];
}

Id SpirvEmitter::guarded(Id condition, Id type, Id otherwise, const std::function<Id()> &then) {
  Id before = block_, then_label = module_.fresh(), merge = module_.fresh();
  module_.emit(Inst::SelectionMerge, {merge, 0});
  module_.emit(Inst::BranchConditional, {condition, then_label, merge});
  start_block(then_label);
  Id result = then();
  Id then_end = block_;
  module_.emit(Inst::Branch, {merge});
  start_block(merge);
  return otherwise ? module_.emit_value(Inst::Phi, type, {result, then_end, otherwise, before}) : 0;
}

void SpirvEmitter::emit_error(const Op &op) {
  guarded(value(op.operands[0]), 0, 0, [&] {
    Id word = module_.type_int(32);
    Id pointer = module_.emit_value(Inst::AccessChain, module_.type_pointer(kStorageBuffer, word),
                                    {error_, module_.constant_u32(0), module_.constant_u32(0)});
    module_.emit(Inst::Store, {pointer, module_.constant_u32(error_word(op.imm, op.imm2))});
    return Id(0);
  });
}

Id SpirvEmitter::offset_index(Id index, uint32_t lane) {
  if (lane == 0)
    return index;
  Type index_type(Scalar::kIndex);
  return module_.emit_value(Inst::IAdd, type(index_type), {index, int_constant(index_type, lane)});
}

Id SpirvEmitter::element_pointer(uint32_t memory, Id index) {
  const Memory &m = kernel_.memories[memory];
  StorageClass storage = m.space == Space::kBuffer ? kStorageBuffer : m.space == Space::kWorkgroup ? kWorkgroup : kFunction;
  Id pointer = module_.type_pointer(storage, memory_elements_[memory]);
  if (m.space == Space::kBuffer)
    return module_.emit_value(Inst::AccessChain, pointer, {memory_ids_[memory], module_.constant_u32(0), index});
  return module_.emit_value(Inst::AccessChain, pointer, {memory_ids_[memory], index});
}

Id SpirvEmitter::load_element(uint32_t memory, Id index) {
  const Memory &m = kernel_.memories[memory];
  Id raw = module_.emit_value(Inst::Load, memory_elements_[memory], {element_pointer(memory, index)});
  if (m.space == Space::kBuffer && m.type == Scalar::kBool)
    return module_.emit_value(Inst::INotEqual, module_.type_bool(), {raw, int_constant(Type(Scalar::kI8), 0)});
  return raw;
}

void SpirvEmitter::store_element(uint32_t memory, Id index, Id element) {
  const Memory &m = kernel_.memories[memory];
  if (m.space == Space::kBuffer && m.type == Scalar::kBool) {
    Type byte(Scalar::kI8);
    element = select(element, byte, int_constant(byte, 1), int_constant(byte, 0));
  }
  module_.emit(Inst::Store, {element_pointer(memory, index), element});
}

void SpirvEmitter::memory_op(const Op &op) {
  auto lane_of = [&](Id vector, Type vector_type, uint32_t lane) {
    if (!vector_type.is_vector())
      return vector;
    return module_.emit_value(Inst::CompositeExtract, scalar_type(vector_type.scalar), {vector, lane});
  };
  auto gather_lanes = [&](Type t, const std::function<Id(uint32_t)> &lane) {
    if (!t.is_vector())
      return lane(0);
    std::vector<Id> parts;
    for (uint32_t i = 0; i < t.lanes; ++i)
      parts.push_back(lane(i));
    return module_.emit_value(Inst::CompositeConstruct, type(t), parts);
  };
  // Lane `lane` is accessed: a bool of its own, or one for all lanes.
  auto mask_lane = [&](ValueId mask, uint32_t lane) { return lane_of(value(mask), kernel_.type_of(mask), lane); };
  auto in_count = [&](ValueId count, uint32_t lane) {
    return module_.emit_value(Inst::SGreaterThan, module_.type_bool(),
                              {value(count), int_constant(kernel_.type_of(count), lane)});
  };

  switch (op.code) {
  case Opcode::kLoad: {
    Id index = value(op.operands[0]);
    define(op, gather_lanes(kernel_.type_of(op.results[0]),
                            [&](uint32_t i) { return load_element(op.memory, offset_index(index, i)); }));
    return;
  }
  case Opcode::kStore: {
    Id index = value(op.operands[0]), v = value(op.operands[1]);
    Type t = kernel_.type_of(op.operands[1]);
    for (uint32_t i = 0; i < t.lanes; ++i)
      store_element(op.memory, offset_index(index, i), lane_of(v, t, i));
    return;
  }
  case Opcode::kLoadPart: {
    Id index = value(op.operands[0]), otherwise = value(op.operands[2]);
    Type t = kernel_.type_of(op.results[0]);
    define(op, gather_lanes(t, [&](uint32_t i) {
      Id keep = lane_of(otherwise, t, i);
      return guarded(in_count(op.operands[1], i), scalar_type(t.scalar), keep,
                     [&] { return load_element(op.memory, offset_index(index, i)); });
    }));
    return;
  }
  case Opcode::kStorePart: {
    Id index = value(op.operands[0]), v = value(op.operands[1]);
    Type t = kernel_.type_of(op.operands[1]);
    for (uint32_t i = 0; i < t.lanes; ++i) {
      Id lane = lane_of(v, t, i);
      guarded(in_count(op.operands[2], i), 0, 0, [&] {
        store_element(op.memory, offset_index(index, i), lane);
        return Id(0);
      });
    }
    return;
  }
  case Opcode::kLoadIf: {
    Id index = value(op.operands[1]), otherwise = value(op.operands[2]);
    Type t = kernel_.type_of(op.results[0]);
    if (!kernel_.type_of(op.operands[0]).is_vector()) {
      define(op, guarded(value(op.operands[0]), type(t), otherwise, [&] {
        return gather_lanes(t, [&](uint32_t i) { return load_element(op.memory, offset_index(index, i)); });
      }));
      return;
    }
    define(op, gather_lanes(t, [&](uint32_t i) {
      Id keep = lane_of(otherwise, t, i);
      return guarded(mask_lane(op.operands[0], i), scalar_type(t.scalar), keep,
                     [&] { return load_element(op.memory, offset_index(index, i)); });
    }));
    return;
  }
  case Opcode::kStoreIf: {
    Id index = value(op.operands[1]), v = value(op.operands[2]);
    Type t = kernel_.type_of(op.operands[2]);
    bool per_lane = kernel_.type_of(op.operands[0]).is_vector();
    auto store_lane = [&](uint32_t i) { store_element(op.memory, offset_index(index, i), lane_of(v, t, i)); };
    if (!per_lane) {
      guarded(value(op.operands[0]), 0, 0, [&] {
        for (uint32_t i = 0; i < t.lanes; ++i)
          store_lane(i);
        return Id(0);
      });
      return;
    }
    for (uint32_t i = 0; i < t.lanes; ++i)
      guarded(mask_lane(op.operands[0], i), 0, 0, [&] {
        store_lane(i);
        return Id(0);
      });
    return;
  }
  case Opcode::kGather: {
    Id indices = value(op.operands[0]);
    Type t = kernel_.type_of(op.results[0]), index_type = kernel_.type_of(op.operands[0]);
    define(op, gather_lanes(t, [&](uint32_t i) {
      Id index = lane_of(indices, index_type, i);
      if (op.operands.size() == 1)
        return load_element(op.memory, index);
      Id keep = lane_of(value(op.operands[2]), t, i);
      return guarded(mask_lane(op.operands[1], i), scalar_type(t.scalar), keep,
                     [&] { return load_element(op.memory, index); });
    }));
    return;
  }
  case Opcode::kScatter: {
    Id indices = value(op.operands[0]), v = value(op.operands[1]);
    Type index_type = kernel_.type_of(op.operands[0]), t = kernel_.type_of(op.operands[1]);
    for (uint32_t i = 0; i < t.lanes; ++i) {
      Id index = lane_of(indices, index_type, i), lane = lane_of(v, t, i);
      auto store_lane = [&] {
        store_element(op.memory, index, lane);
        return Id(0);
      };
      if (op.operands.size() == 2)
        store_lane();
      else
        guarded(mask_lane(op.operands[2], i), 0, 0, store_lane);
    }
    return;
  }
  case Opcode::kAtomicAdd:
  case Opcode::kAtomicMin:
  case Opcode::kAtomicMax: {
    Type t = kernel_.type_of(op.operands[1]);
    if (bits(t.scalar) != 32)
      refuse(op, "atomics are 32 bits wide here");
    Inst inst = op.code == Opcode::kAtomicAdd   ? Inst::AtomicIAdd
                : op.code == Opcode::kAtomicMin ? Inst::AtomicSMin
                                                : Inst::AtomicSMax;
    Scope scope = kernel_.memories[op.memory].space == Space::kWorkgroup ? kScopeWorkgroup : kScopeDevice;
    Id pointer = element_pointer(op.memory, value(op.operands[0]));
    define(op, module_.emit_value(inst, type(t), {pointer, module_.constant_u32(scope), module_.constant_u32(0),
                                                  value(op.operands[1])}));
    return;
  }
  case Opcode::kPrefetch: return; // a hint
  default: refuse(op, "no SPIR-V form");
  }
}

void SpirvEmitter::op(const Op &op) {
  switch (op.code) {
  case Opcode::kFor: return emit_for(op);
  case Opcode::kIf: return emit_if(op);
  case Opcode::kWhile: return emit_while(op);
  case Opcode::kError: return emit_error(op);
  case Opcode::kBarrier: {
    // Uniform memory is what storage buffers are called in the memory semantics.
    Id workgroup = module_.constant_u32(kScopeWorkgroup);
    module_.emit(Inst::ControlBarrier, {workgroup, workgroup,
                                        module_.constant_u32(kAcquireRelease | kUniformMemory | kWorkgroupMemory)});
    return;
  }
  case Opcode::kGroupId:
  case Opcode::kLocalId:
  case Opcode::kGridSize: {
    BuiltIn which = op.code == Opcode::kGroupId   ? kWorkgroupId
                    : op.code == Opcode::kLocalId ? kLocalInvocationId
                                                  : kNumWorkgroups;
    auto found = std::find_if(builtins_.begin(), builtins_.end(), [&](const auto &b) { return b.first == which; });
    Id component = module_.emit_value(Inst::CompositeExtract, module_.type_int(32),
                                      {found->second, static_cast<uint32_t>(op.imm)});
    if (bits(Scalar::kIndex) != 32)
      component = module_.emit_value(Inst::UConvert, scalar_type(Scalar::kIndex), {component});
    define(op, component);
    positive_[op.results[0]] = op.code == Opcode::kGridSize;
    return;
  }
  case Opcode::kParam: {
    const kernel::Param &param = kernel_.params[static_cast<size_t>(op.imm)];
    if (param.type == Scalar::kIndex && bits(Scalar::kIndex) != 32)
      refuse(op, "index params are 32 bits wide here");
    Id scalar = scalar_type(param.type);
    Id pointer = module_.emit_value(Inst::AccessChain, module_.type_pointer(kPushConstant, scalar),
                                    {params_, module_.constant_u32(static_cast<uint32_t>(op.imm))});
    define(op, module_.emit_value(Inst::Load, scalar, {pointer}));
    positive_[op.results[0]] = param.type != Scalar::kF32 && param.min > 0;
    return;
  }
  default: break;
  }
  if (kernel::is_memory(op.code))
    return memory_op(op);
  if (!arithmetic_op(op))
    refuse(op, "no SPIR-V form");
}

} // namespace spv
} // namespace ingot::aotc::emit
