// The in-memory model of everything that goes into an archive. The planner fills it, the writer (writer.h) turns it
// into bytes, the runtime's verifier is the judge of what is legal. Plain structs, no invariants of their own; all
// indices are positions in the vectors beside them. Element types are INGOT_ELEMENT_TYPE_* of <ingot/ingot.h>,
// numbers and layouts those of schemas/program_words.h.
//
// Each variant (one target) is complete: kernels and functions of its own. The functions of all variants must have
// the same names and signatures in the same order; segments are shared, and equal ones are stored once.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ingot/ingot.h"
#include "schemas/program_words.h"

namespace ingot::aotc::archive {

using program::CodeFormat;
using program::ExprOp;
using program::kNone;
using program::SegmentKind;
using program::SlotKind;
using program::SymbolKind;

// Bytes stored outside the metadata, at a multiple of `alignment` (a power of two, at least 64) in the file.
struct Segment {
  std::vector<uint8_t> bytes;
  uint32_t alignment = 64; // 64 .. 4096
  SegmentKind kind = SegmentKind::weights;
  std::string name; // for people: "weights", "llvm-cpu.elf"
};

// A named run-time integer: a dim of an input, or a host scalar. min <= value <= max is checked when it is bound.
struct Symbol {
  std::string name;
  int64_t min = 0;
  int64_t max = int64_t{1} << 20;
  SymbolKind kind = SymbolKind::input;
};

// One node of a function's expression table; operands a, b, c are smaller indices (a symbol's index for `symbol`).
struct Expr {
  ExprOp op = ExprOp::constant;
  uint32_t a = 0, b = 0, c = 0;
  int64_t value = 0; // of `constant`
  bool operator==(const Expr &) const = default;
};

// An input or output of a function. Rank = dims.size() <= 8. An input dim that is a plain symbol node binds the
// symbol at its first occurrence (inputs in order, dims in order); every other one is checked for equality.
struct TensorSpec {
  std::string name;
  ingot_element_type_t type = INGOT_ELEMENT_TYPE_F32;
  std::vector<uint32_t> dims;         // expressions
  std::vector<std::string> dim_names; // empty, or one a dim (may be ""): names in the source model
  // Outputs only: an upper bound of the byte size over input symbols alone, for callers that must provide a buffer
  // before a data-dependent size is known; kNone = exactly the size that the dims give.
  uint32_t capacity = kNone;
};

// A place for bytes. See SlotKind for the meaning of the fields of each kind.
struct Slot {
  SlotKind kind = SlotKind::transient;
  uint32_t of = 0;             // segment, input, output, arena or slot index, or state number
  uint32_t offset = kNone;     // expression: transient, alias (byte offset from the start of what `of` names)
  uint32_t size = kNone;       // expression: byte size, every kind (constant for constant, splat, state)
  uint64_t segment_offset = 0; // constant: byte offset in the segment
  uint64_t pattern = 0;        // splat: the element's bits
  uint8_t pattern_bytes = 0;   // splat: 1, 2, 4 or 8
  std::string name;            // source value, for people; may be empty
};

// What one dispatch command computes: for diagnostics, profiles and cost reports.
struct Site {
  uint32_t kernel = 0;
  std::vector<std::string> nodes; // names of the source nodes that it covers
  uint32_t flops = kNone;         // expressions, or kNone where unknown
  uint32_t bytes = kNone;
};

// The error word of a run carries an index into this table (schemas/cpu_abi.h).
struct ErrorSite {
  std::string node;    // source node name
  std::string op;      // "Gather"
  std::string message; // what the operator demands: "an index is outside axis 0 of 'table'"
};

// Loop-free text of commands; build it with CommandBuilder (commands.h).
using Words = std::vector<uint32_t>;

// A value that the runtime keeps: a list, an optional, strings. See HostSlotKind.
struct HostSlot {
  program::HostSlotKind kind = program::HostSlotKind::transient;
  uint32_t of = 0; // input, output or segment
  ingot_element_type_t type = INGOT_ELEMENT_TYPE_NONE; // of a constant, as what follows
  std::vector<uint32_t> dims;
  uint64_t offset = 0, size = 0;
};

// An entry point.
struct Function {
  std::string name = "main";
  std::vector<Symbol> symbols;
  std::vector<Expr> exprs;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<uint32_t> arenas; // byte size expression of each arena; transients lie in them. Arena 0 should depend on
                                // input symbols only; one that depends on host symbols grows while running
  std::vector<Slot> slots;
  std::vector<Site> sites;
  std::vector<ErrorSite> error_sites;
  std::vector<std::string> messages; // of `check`
  Words commands;
  std::vector<Words> subroutines; // number i may call only those below i; all share the function's tables
  std::vector<HostSlot> host_slots;
};

// One compiled form of a kernel. Of the versions whose mask the machine has, the one with the highest rank runs.
struct CodeVersion {
  uint32_t executable = 0;     // index in Variant::executables
  std::string entry;           // symbol name
  uint64_t symbol_offset = 0;  // ELF: virtual address of the entry point in the image
  uint64_t code_size = 0;      // bytes of the entry point's code
  uint64_t feature_mask = 0;   // INGOT_CPU_* bits of schemas/cpu_abi.h
  uint32_t rank = 0;
  uint32_t stack_bytes = 0;    // most stack that a call takes
  uint64_t scratch_bytes = 0;  // scratch memory a worker; GPU code: workgroup memory that is asked for at launch
  std::string schedule;        // printable parameters, "{mr=8,nr=32}"
};

// A binding as a tensor: see ingot_tensor_map_t of schemas/gpu_abi.h. Bytes, but for sizes and box.
struct TensorMap {
  uint32_t binding = 0;
  uint64_t offset = 0;
  std::vector<uint64_t> sizes, strides;
  std::vector<uint32_t> box;
};

struct Kernel {
  std::string name;
  std::vector<uint8_t> bindings; // access of each: program::kAccess*
  uint32_t param_count = 0;
  std::array<uint32_t, 3> local_size = {1, 1, 1}; // invocations a workgroup (GPU targets)
  std::vector<CodeVersion> versions;
  uint32_t flags = 0;                             // INGOT_KERNEL_FLAG_* of schemas/gpu_abi.h
  std::vector<TensorMap> tensor_maps;             // the kernel's last arguments
};

// One loadable image.
struct Executable {
  CodeFormat format = CodeFormat::elf;
  uint32_t segment = 0;
};

// Everything for one target.
struct Variant {
  std::string target; // "llvm-cpu", "vulkan-spirv"
  std::string arch;   // "x86_64", "aarch64", "sm_90a"; empty where the target needs none
  uint32_t io_alignment = 1; // alignment in bytes that kernels demand of I/O pointers (power of two <= 64)
  std::vector<Executable> executables;
  std::vector<Kernel> kernels;
  std::vector<Function> functions;
  std::optional<Function> prepare; // what a session runs once: writes `prepared` slots, which the functions read
};

struct Provenance {
  std::string compiler;      // "aotc 0.1.0 (LLVM 19.1.7)"
  std::string flags;         // as given, without paths
  std::string source_name;   // file name without folders
  std::array<uint8_t, 32> source_sha256 = {};
};

struct ArchiveModel {
  Provenance provenance;
  std::vector<Segment> segments;
  std::vector<Variant> variants;
  uint64_t required_features = 0; // INGOT_ARCHIVE_FEATURE_* bits that a reader must know
};

} // namespace ingot::aotc::archive
