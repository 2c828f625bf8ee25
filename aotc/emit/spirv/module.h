// SpirvModule: builds one SPIR-V module word by word. Types and constants are shared; sections are kept apart and put
// into the order that the specification demands by finish(). It knows nothing of kernels.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "aotc/emit/spirv/words.h"

namespace ingot::aotc::emit::spv {

using Id = uint32_t;

class SpirvModule {
 public:
  SpirvModule();

  Id fresh() { return next_id_++; }
  Id first_block() const { return first_block_; } // label of the entry function's first block
  void capability(Capability capability) { capabilities_.insert(capability); }
  void extension(std::string_view name) { extensions_.insert(std::string(name)); }

  // Types and constants: equal ones are one id.
  Id type_void() { return declare(Inst::TypeVoid, {}); }
  Id type_bool() { return declare(Inst::TypeBool, {}); }
  Id type_int(uint32_t bits) { return declare(Inst::TypeInt, {bits, 0}); }
  Id type_float(uint32_t bits) { return declare(Inst::TypeFloat, {bits}); }
  Id type_vector(Id element, uint32_t lanes) { return declare(Inst::TypeVector, {element, lanes}); }
  Id type_pointer(StorageClass storage, Id pointee) { return declare(Inst::TypePointer, {storage, pointee}); }
  Id type_function(Id result) { return declare(Inst::TypeFunction, {result}); }
  Id constant_bool(bool value) { return declare_typed(value ? Inst::ConstantTrue : Inst::ConstantFalse, type_bool(), {}); }
  // `bits` wide constant of `type`, of which the low bits of `value` are taken (sign-extended below 32 bits by caller).
  Id constant(Id type, uint32_t bits, uint64_t value);
  Id constant_u32(uint32_t value) { return constant(type_int(32), 32, value); }
  Id constant_composite(Id type, const std::vector<Id> &parts) { return declare_typed(Inst::ConstantComposite, type, parts); }

  // Types and variables that are never shared (they carry decorations of their own).
  Id unique_type(Inst inst, const std::vector<uint32_t> &operands);
  Id global(StorageClass storage, Id pointer_type);

  void name(Id id, std::string_view text);
  void decorate(Id id, Decoration decoration, std::initializer_list<uint32_t> operands = {});
  void decorate_member(Id id, uint32_t member, Decoration decoration, std::initializer_list<uint32_t> operands = {});

  // Instructions of the function body, in order.
  void emit(Inst inst, const std::vector<uint32_t> &operands) { append(body_, inst, operands); }
  Id emit_value(Inst inst, Id type, const std::vector<uint32_t> &operands);
  Id glsl(Glsl op, Id type, const std::vector<uint32_t> &operands);
  // Variables of storage class Function; they go to the head of the first block.
  Id local(Id pointer_type);

  // The whole module with one compute entry point; the body was emitted without its first label and its return.
  std::vector<uint32_t> finish(std::string_view entry, const std::array<uint32_t, 3> &local_size,
                               const std::vector<Id> &interface_ids);

 private:
  static void append(std::vector<uint32_t> &section, Inst inst, const std::vector<uint32_t> &operands);
  Id declare(Inst inst, const std::vector<uint32_t> &operands);
  Id declare_typed(Inst inst, Id type, std::vector<uint32_t> operands);

  Id next_id_ = 1;
  Id glsl_ = 0;
  Id first_block_ = 0;
  std::set<uint32_t> capabilities_;
  std::set<std::string> extensions_;
  std::map<std::vector<uint32_t>, Id> shared_;
  std::vector<uint32_t> names_, decorations_, globals_, locals_, body_;
};

// A literal string operand: UTF-8, zero-terminated, padded to whole words.
std::vector<uint32_t> literal(std::string_view text);

} // namespace ingot::aotc::emit::spv
