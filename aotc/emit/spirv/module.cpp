// See module.h.
#include "aotc/emit/spirv/module.h"

#include "aotc/base/error.h"

namespace ingot::aotc::emit::spv {

std::vector<uint32_t> literal(std::string_view text) {
  std::vector<uint32_t> words(text.size() / 4 + 1);
  for (size_t i = 0; i < text.size(); ++i)
    words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(text[i])) << (i % 4 * 8);
  return words;
}

SpirvModule::SpirvModule() {
  capability(kShader);
  first_block_ = fresh();
}

void SpirvModule::append(std::vector<uint32_t> &section, Inst inst, const std::vector<uint32_t> &operands) {
  ensure(operands.size() < 0xffff, "spirv: instruction too long");
  section.push_back(static_cast<uint32_t>(operands.size() + 1) << 16 | static_cast<uint32_t>(inst));
  section.insert(section.end(), operands.begin(), operands.end());
}

Id SpirvModule::declare(Inst inst, const std::vector<uint32_t> &operands) {
  std::vector<uint32_t> key = operands;
  key.insert(key.begin(), static_cast<uint32_t>(inst));
  auto [it, added] = shared_.try_emplace(std::move(key), next_id_);
  if (added) {
    Id id = fresh();
    std::vector<uint32_t> words = operands;
    words.insert(words.begin(), id);
    append(globals_, inst, words);
  }
  return it->second;
}

Id SpirvModule::declare_typed(Inst inst, Id type, std::vector<uint32_t> operands) {
  std::vector<uint32_t> key = operands;
  key.insert(key.begin(), {static_cast<uint32_t>(inst), type});
  auto [it, added] = shared_.try_emplace(std::move(key), next_id_);
  if (added) {
    Id id = fresh();
    operands.insert(operands.begin(), {type, id});
    append(globals_, inst, operands);
  }
  return it->second;
}

Id SpirvModule::constant(Id type, uint32_t bits, uint64_t value) {
  if (bits == 64)
    return declare_typed(Inst::Constant, type, {static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)});
  return declare_typed(Inst::Constant, type, {static_cast<uint32_t>(value)});
}

Id SpirvModule::unique_type(Inst inst, const std::vector<uint32_t> &operands) {
  Id id = fresh();
  std::vector<uint32_t> words = operands;
  words.insert(words.begin(), id);
  append(globals_, inst, words);
  return id;
}

Id SpirvModule::global(StorageClass storage, Id pointer_type) {
  Id id = fresh();
  append(globals_, Inst::Variable, {pointer_type, id, storage});
  return id;
}

Id SpirvModule::local(Id pointer_type) {
  Id id = fresh();
  append(locals_, Inst::Variable, {pointer_type, id, kFunction});
  return id;
}

void SpirvModule::name(Id id, std::string_view text) {
  std::vector<uint32_t> words = literal(text);
  words.insert(words.begin(), id);
  append(names_, Inst::Name, words);
}

void SpirvModule::decorate(Id id, Decoration decoration, std::initializer_list<uint32_t> operands) {
  std::vector<uint32_t> words = {id, decoration};
  words.insert(words.end(), operands);
  append(decorations_, Inst::Decorate, words);
}

void SpirvModule::decorate_member(Id id, uint32_t member, Decoration decoration,
                                  std::initializer_list<uint32_t> operands) {
  std::vector<uint32_t> words = {id, member, decoration};
  words.insert(words.end(), operands);
  append(decorations_, Inst::MemberDecorate, words);
}

Id SpirvModule::emit_value(Inst inst, Id type, const std::vector<uint32_t> &operands) {
  Id id = fresh();
  std::vector<uint32_t> words = {type, id};
  words.insert(words.end(), operands.begin(), operands.end());
  append(body_, inst, words);
  return id;
}

Id SpirvModule::glsl(Glsl op, Id type, const std::vector<uint32_t> &operands) {
  if (!glsl_)
    glsl_ = fresh();
  std::vector<uint32_t> words = {glsl_, static_cast<uint32_t>(op)};
  words.insert(words.end(), operands.begin(), operands.end());
  return emit_value(Inst::ExtInst, type, words);
}

std::vector<uint32_t> SpirvModule::finish(std::string_view entry, const std::array<uint32_t, 3> &local_size,
                                          const std::vector<Id> &interface_ids) {
  Id void_type = type_void();
  Id function_type = type_function(void_type);
  Id function = fresh();

  std::vector<uint32_t> out = {kMagic, kVersion13, 0, 0, 0};
  for (uint32_t capability : capabilities_)
    append(out, Inst::Capability, {capability});
  for (const std::string &extension : extensions_)
    append(out, Inst::Extension, literal(extension));
  if (glsl_) {
    std::vector<uint32_t> words = literal("GLSL.std.450");
    words.insert(words.begin(), glsl_);
    append(out, Inst::ExtInstImport, words);
  }
  append(out, Inst::MemoryModel, {0, 1}); // Logical, GLSL450
  std::vector<uint32_t> words = literal(entry);
  words.insert(words.begin(), {kExecutionModelGLCompute, function});
  words.insert(words.end(), interface_ids.begin(), interface_ids.end());
  append(out, Inst::EntryPoint, words);
  append(out, Inst::ExecutionMode, {function, kExecutionModeLocalSize, local_size[0], local_size[1], local_size[2]});
  for (const std::vector<uint32_t> *section : {&names_, &decorations_, &globals_})
    out.insert(out.end(), section->begin(), section->end());
  append(out, Inst::Function, {void_type, function, 0, function_type});
  append(out, Inst::Label, {first_block_});
  out.insert(out.end(), locals_.begin(), locals_.end());
  out.insert(out.end(), body_.begin(), body_.end());
  append(out, Inst::Return, {});
  append(out, Inst::FunctionEnd, {});
  out[3] = next_id_;
  return out;
}

} // namespace ingot::aotc::emit::spv
