// A transient slot becomes an output of bytes; nothing else of the function changes, as commands name slots and not places.
#include "tools/ingot/expose.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "archive_generated.h"
#include "schemas/header.h"
#include "schemas/program_words.h"
#include "src/runtime/archive/hash.h"

namespace ingot::tool {

using program::kNone;
using program::Opcode;
using program::SlotKind;

namespace {

// Who writes a slot.
struct Writes {
  size_t position = 0; // of the last write, in the order of the commands
  std::string kernel;
  std::vector<std::string> nodes;
};

class Writers {
 public:
  Writers(const schema::VariantT &variant, const schema::FunctionT &function) : variant_(variant), function_(function) {
    walk(0, function.commands.size());
  }
  std::map<uint32_t, Writes> slots;

 private:
  void walk(size_t begin, size_t end) {
    const std::vector<uint32_t> &words = function_.commands;
    for (size_t at = begin; at < end; at += words[at] >> 8) {
      const uint32_t *w = &words[at];
      switch (Opcode(w[0] & 0xff)) {
        case Opcode::dispatch: dispatch(w); break;
        case Opcode::copy: slots[w[1]].position = ++position_; break;
        case Opcode::fill: slots[w[1]].position = ++position_; break;
        case Opcode::branch: walk(at + 4, at + 4 + w[2] + w[3]); break;
        case Opcode::loop: walk(at + 5, at + 5 + w[4]); break;
        default: break;
      }
    }
  }

  void dispatch(const uint32_t *w) {
    const schema::KernelT &kernel = *variant_.kernels[w[1]];
    ++position_;
    for (uint32_t b = 0; b < w[6]; ++b) {
      if (!(kernel.bindings[b] & program::kAccessWrite)) continue;
      Writes &writes = slots[w[8 + 3 * b]];
      writes.position = position_;
      writes.kernel = kernel.name;
      if (w[2] == kNone) continue;
      for (const std::string &node : function_.sites[w[2]]->nodes)
        if (std::find(writes.nodes.begin(), writes.nodes.end(), node) == writes.nodes.end()) writes.nodes.push_back(node);
    }
  }

  const schema::VariantT &variant_;
  const schema::FunctionT &function_;
  size_t position_ = 0;
};

// Which expressions rest on values that only the run knows.
std::vector<bool> host_dependent(const schema::FunctionT &f) {
  std::vector<bool> out;
  for (const schema::Expr &e : f.exprs) {
    switch (program::ExprOp(e.op())) {
      case program::ExprOp::constant: out.push_back(false); break;
      case program::ExprOp::symbol:
        out.push_back(f.symbols[e.a()]->kind == uint8_t(program::SymbolKind::host));
        break;
      case program::ExprOp::logical_not: out.push_back(out[e.a()]); break;
      case program::ExprOp::select: out.push_back(out[e.a()] || out[e.b()] || out[e.c()]); break;
      default: out.push_back(out[e.a()] || out[e.b()]);
    }
  }
  return out;
}

Bytes assemble(const Bytes &original, const schema::ArchiveT &metadata) {
  flatbuffers::FlatBufferBuilder builder;
  schema::FinishArchiveBuffer(builder, schema::Archive::Pack(builder, &metadata));
  program::Header header;
  std::memcpy(&header, original.data(), sizeof header);
  const uint64_t old_offset = header.data_offset, data = header.file_size - old_offset;
  constexpr uint64_t kAlign = program::kMaxSegmentAlignment;
  header.metadata_size = builder.GetSize();
  header.data_offset = (program::kHeaderSize + header.metadata_size + kAlign - 1) / kAlign * kAlign;
  header.file_size = header.data_offset + data;
  header.metadata_xxh3 = xxh3(builder.GetBufferPointer(), builder.GetSize());
  header.header_xxh3 = xxh3(&header, sizeof header - sizeof header.header_xxh3);
  Bytes out(header.file_size);
  std::memcpy(out.data(), &header, sizeof header);
  std::memcpy(out.data() + program::kHeaderSize, builder.GetBufferPointer(), builder.GetSize());
  std::memcpy(out.data() + header.data_offset, original.data() + old_offset, data);
  return out;
}

} // namespace

Exposed expose(const Bytes &archive, uint32_t variant, uint32_t function) {
  const auto metadata = schema::UnPackArchive(archive.data() + program::kHeaderSize);
  std::swap(metadata->variants[0], metadata->variants[variant]);
  metadata->variants.resize(1);
  schema::VariantT &v = *metadata->variants[0];
  schema::FunctionT &f = *v.functions[function];
  const Writers writers(v, f);
  const std::vector<bool> late = host_dependent(f);
  std::map<std::string, int> names;
  for (const auto &slot : f.slots) ++names[slot->name];
  Exposed out;
  std::vector<std::pair<size_t, ExposedTensor>> found; // by position
  for (const auto &[index, writes] : writers.slots) {
    schema::SlotT &slot = *f.slots[index];
    ExposedTensor tensor{slot.name, slot.of, writes.kernel, writes.nodes};
    if (slot.kind == uint8_t(SlotKind::output)) {
      tensor.name = f.outputs[slot.of]->name;
    } else if (slot.kind == uint8_t(SlotKind::transient) && names[slot.name] == 1 && !slot.name.empty() && !late[slot.size]) {
      tensor.output = uint32_t(f.outputs.size());
      auto spec = std::make_unique<schema::TensorSpecT>();
      spec->name = "exposed " + std::to_string(index);
      spec->type = INGOT_ELEMENT_TYPE_U8;
      spec->dims = {slot.size};
      f.outputs.push_back(std::move(spec));
      slot.kind = uint8_t(SlotKind::output);
      slot.of = tensor.output;
      slot.offset = kNone;
    } else {
      continue;
    }
    found.emplace_back(writes.position, std::move(tensor));
  }
  std::stable_sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
  for (auto &[position, tensor] : found) out.tensors.push_back(std::move(tensor));
  out.archive = assemble(archive, *metadata);
  return out;
}

} // namespace ingot::tool
