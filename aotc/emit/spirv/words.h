// The numbers of SPIR-V 1.3 that the emitter uses (instructions, decorations, capabilities, GLSL.std.450), under the
// names that the SPIR-V specification gives them.
#pragma once

#include <cstdint>

namespace ingot::aotc::emit::spv {

inline constexpr uint32_t kMagic = 0x07230203;
inline constexpr uint32_t kVersion13 = 0x00010300;

enum class Inst : uint16_t {
  Name = 5, MemberName = 6, Extension = 10, ExtInstImport = 11, ExtInst = 12, MemoryModel = 14, EntryPoint = 15,
  ExecutionMode = 16, Capability = 17, TypeVoid = 19, TypeBool = 20, TypeInt = 21, TypeFloat = 22, TypeVector = 23,
  TypeArray = 28, TypeRuntimeArray = 29, TypeStruct = 30, TypePointer = 32, TypeFunction = 33, ConstantTrue = 41,
  ConstantFalse = 42, Constant = 43, ConstantComposite = 44, Function = 54, FunctionEnd = 56, Variable = 59, Load = 61,
  Store = 62, AccessChain = 65, Decorate = 71, MemberDecorate = 72, VectorShuffle = 79, CompositeConstruct = 80,
  CompositeExtract = 81, CompositeInsert = 82, ConvertFToU = 109, ConvertFToS = 110, ConvertSToF = 111,
  ConvertUToF = 112, UConvert = 113, SConvert = 114, FConvert = 115, Bitcast = 124, SNegate = 126, FNegate = 127,
  IAdd = 128, FAdd = 129, ISub = 130, FSub = 131, IMul = 132, FMul = 133, UDiv = 134, SDiv = 135, FDiv = 136,
  UMod = 137, LogicalEqual = 164, LogicalNotEqual = 165, LogicalOr = 166, LogicalAnd = 167, LogicalNot = 168,
  Select = 169, IEqual = 170, INotEqual = 171, UGreaterThan = 172, SGreaterThan = 173, UGreaterThanEqual = 174,
  SGreaterThanEqual = 175, ULessThan = 176, SLessThan = 177, ULessThanEqual = 178, SLessThanEqual = 179,
  FOrdEqual = 180, FUnordNotEqual = 183, FOrdLessThan = 184, FOrdGreaterThan = 186, FOrdLessThanEqual = 188,
  FOrdGreaterThanEqual = 190, ShiftRightLogical = 194, ShiftRightArithmetic = 195, ShiftLeftLogical = 196,
  BitwiseOr = 197, BitwiseXor = 198, BitwiseAnd = 199, Not = 200, ControlBarrier = 224, AtomicIAdd = 234,
  AtomicSMin = 236, AtomicSMax = 238, Phi = 245, LoopMerge = 246, SelectionMerge = 247, Label = 248, Branch = 249,
  BranchConditional = 250, Return = 253, GroupNonUniformShuffle = 345, GroupNonUniformIAdd = 349,
  GroupNonUniformFAdd = 350, GroupNonUniformSMin = 353, GroupNonUniformFMin = 355, GroupNonUniformSMax = 356,
  GroupNonUniformFMax = 358,
};

enum class Glsl : uint32_t { RoundEven = 2, Trunc = 3, FAbs = 4, Floor = 8, Ceil = 9, Sqrt = 31 };

enum Capability : uint32_t {
  kShader = 1, kFloat16 = 9, kFloat64 = 10, kInt64 = 11, kInt16 = 22, kInt8 = 39, kGroupNonUniform = 61,
  kGroupNonUniformArithmetic = 63, kGroupNonUniformShuffle = 65, kStorageBuffer16BitAccess = 4433,
  kStorageBuffer8BitAccess = 4448,
};

enum Decoration : uint32_t {
  kBlock = 2, kArrayStride = 6, kBuiltIn = 11, kRestrict = 19, kCoherent = 23, kNonWritable = 24, kNonReadable = 25,
  kBinding = 33, kDescriptorSet = 34, kOffset = 35, kNoContraction = 42,
};

enum BuiltIn : uint32_t { kNumWorkgroups = 24, kWorkgroupId = 26, kLocalInvocationId = 27 };

enum StorageClass : uint32_t {
  kInput = 1, kWorkgroup = 4, kFunction = 7, kPushConstant = 9, kStorageBuffer = 12,
};

enum Scope : uint32_t { kScopeDevice = 1, kScopeWorkgroup = 2, kScopeSubgroup = 3 };

enum Semantics : uint32_t { kAcquireRelease = 0x8, kUniformMemory = 0x40, kWorkgroupMemory = 0x100 };

inline constexpr uint32_t kExecutionModelGLCompute = 5;
inline constexpr uint32_t kExecutionModeLocalSize = 17;
inline constexpr uint32_t kLoopControlNone = 0, kLoopControlUnroll = 1;
inline constexpr uint32_t kGroupOperationReduce = 0;

} // namespace ingot::aotc::emit::spv
