// ArchiveModel -> bytes: segments are deduplicated and laid out, metadata is built bottom-up with FlatBuffers, the
// header is filled last. Nothing here depends on addresses, time or hash-table order.
#include "aotc/archive/writer.h"

#include <cstring>
#include <map>

#define XXH_INLINE_ALL // nothing to link
#include <xxhash.h>

#include "archive_generated.h"
#include "schemas/gpu_abi.h"
#include "schemas/header.h"

namespace ingot::aotc::archive {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

uint64_t align_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Segments after deduplication: `index[i]` is the stored segment of the model's segment i.
struct Layout {
  struct Stored {
    const Segment *segment;
    uint32_t alignment;
    uint64_t offset = 0, xxh3 = 0;
  };
  std::vector<Stored> stored;
  std::vector<uint32_t> index;
  uint64_t size = 0, alignment = 64;
};

Layout lay_out(const ArchiveModel &model) {
  Layout layout;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<uint32_t>> by_hash; // (hash, size) -> stored indices
  for (const Segment &segment : model.segments) {
    const uint64_t hash = XXH3_64bits(segment.bytes.data(), segment.bytes.size());
    auto &candidates = by_hash[{hash, segment.bytes.size()}];
    uint32_t found = kNone;
    for (uint32_t c : candidates)
      if (layout.stored[c].segment->kind == segment.kind && layout.stored[c].segment->bytes == segment.bytes) found = c;
    if (found == kNone) {
      found = uint32_t(layout.stored.size());
      layout.stored.push_back({&segment, segment.alignment, 0, hash});
      candidates.push_back(found);
    } else if (layout.stored[found].alignment < segment.alignment) {
      layout.stored[found].alignment = segment.alignment;
    }
    layout.index.push_back(found);
  }
  for (auto &s : layout.stored) {
    if (s.alignment < 64) s.alignment = 64;
    s.offset = align_up(layout.size, s.alignment);
    layout.size = s.offset + s.segment->bytes.size();
    if (s.alignment > layout.alignment) layout.alignment = s.alignment;
  }
  return layout;
}

Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> strings(FlatBufferBuilder &b,
                                                                 const std::vector<std::string> &texts) {
  std::vector<Offset<flatbuffers::String>> out;
  for (const std::string &t : texts) out.push_back(b.CreateSharedString(t));
  return b.CreateVector(out);
}

Offset<flatbuffers::Vector<Offset<schema::TensorSpec>>> tensors(FlatBufferBuilder &b,
                                                                const std::vector<TensorSpec> &specs) {
  std::vector<Offset<schema::TensorSpec>> out;
  for (const TensorSpec &t : specs) {
    auto name = b.CreateSharedString(t.name);
    auto dims = b.CreateVector(t.dims);
    Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> names;
    if (!t.dim_names.empty()) names = strings(b, t.dim_names);
    out.push_back(schema::CreateTensorSpec(b, name, uint8_t(t.type), dims, names, t.capacity));
  }
  return b.CreateVector(out);
}

std::vector<uint32_t> host_slots(const Function &f, const Layout &layout) {
  std::vector<uint32_t> words;
  for (const HostSlot &s : f.host_slots) {
    const uint32_t of = s.kind == program::HostSlotKind::constant ? layout.index.at(s.of) : s.of;
    words.insert(words.end(), {uint32_t(s.kind), of, uint32_t(s.type), uint32_t(s.dims.size()), uint32_t(s.offset),
                               uint32_t(s.offset >> 32), uint32_t(s.size), uint32_t(s.size >> 32)});
    words.insert(words.end(), s.dims.begin(), s.dims.end());
    words.resize((words.size() + program::kHostSlotWords - 1) / program::kHostSlotWords * program::kHostSlotWords);
  }
  return words;
}

Offset<schema::Function> function(FlatBufferBuilder &b, const Function &f, const Layout &layout) {
  std::vector<Offset<schema::Symbol>> symbols;
  for (const Symbol &s : f.symbols)
    symbols.push_back(schema::CreateSymbol(b, b.CreateSharedString(s.name), s.min, s.max, uint8_t(s.kind)));
  std::vector<schema::Expr> exprs;
  for (const Expr &e : f.exprs) exprs.emplace_back(e.value, e.a, e.b, e.c, uint32_t(e.op));
  std::vector<Offset<schema::Slot>> slots;
  for (const Slot &s : f.slots) {
    Offset<flatbuffers::String> name;
    if (!s.name.empty()) name = b.CreateSharedString(s.name);
    const uint32_t of = s.kind == SlotKind::constant ? layout.index.at(s.of) : s.of;
    slots.push_back(schema::CreateSlot(b, uint8_t(s.kind), of, s.offset, s.size, s.segment_offset, s.pattern,
                                       s.pattern_bytes, name));
  }
  std::vector<Offset<schema::Site>> sites;
  for (const Site &s : f.sites) sites.push_back(schema::CreateSite(b, s.kernel, strings(b, s.nodes), s.flops, s.bytes));
  std::vector<Offset<schema::ErrorSite>> error_sites;
  for (const ErrorSite &e : f.error_sites) { // one statement each: the order of arguments is not defined
    auto node = b.CreateSharedString(e.node);
    auto op = b.CreateSharedString(e.op);
    auto message = b.CreateSharedString(e.message);
    error_sites.push_back(schema::CreateErrorSite(b, node, op, message));
  }
  std::vector<Offset<schema::Subroutine>> subroutines;
  for (const Words &w : f.subroutines) subroutines.push_back(schema::CreateSubroutine(b, b.CreateVector(w)));
  auto name = b.CreateSharedString(f.name);
  auto symbols_v = b.CreateVector(symbols);
  auto exprs_v = b.CreateVectorOfStructs(exprs);
  auto inputs_v = tensors(b, f.inputs);
  auto outputs_v = tensors(b, f.outputs);
  auto arenas_v = b.CreateVector(f.arenas);
  auto slots_v = b.CreateVector(slots);
  auto sites_v = b.CreateVector(sites);
  auto error_sites_v = b.CreateVector(error_sites);
  auto messages_v = strings(b, f.messages);
  auto commands_v = b.CreateVector(f.commands);
  auto subroutines_v = b.CreateVector(subroutines);
  Offset<flatbuffers::Vector<uint32_t>> host_slots_v;
  if (!f.host_slots.empty()) host_slots_v = b.CreateVector(host_slots(f, layout));
  return schema::CreateFunction(b, name, symbols_v, exprs_v, inputs_v, outputs_v, arenas_v, slots_v, sites_v,
                                error_sites_v, messages_v, commands_v, subroutines_v, host_slots_v);
}

Offset<schema::Kernel> kernel(FlatBufferBuilder &b, const Kernel &k) {
  std::vector<Offset<schema::CodeVersion>> versions;
  for (const CodeVersion &v : k.versions) {
    auto entry = b.CreateSharedString(v.entry);
    auto schedule = b.CreateSharedString(v.schedule);
    versions.push_back(schema::CreateCodeVersion(b, v.executable, entry, v.symbol_offset, v.code_size, v.feature_mask,
                                                 v.rank, v.stack_bytes, v.scratch_bytes, schedule));
  }
  auto name = b.CreateSharedString(k.name);
  auto bindings = b.CreateVector(k.bindings);
  auto versions_v = b.CreateVector(versions);
  return schema::CreateKernel(b, name, bindings, k.param_count, k.local_size[0], k.local_size[1], k.local_size[2],
                              versions_v, k.flags);
}

std::vector<schema::TensorMap> tensor_maps(const Variant &v) {
  std::vector<schema::TensorMap> out;
  for (uint32_t k = 0; k < v.kernels.size(); ++k)
    for (const TensorMap &m : v.kernels[k].tensor_maps) {
      std::array<uint32_t, INGOT_TENSOR_MAP_RANK> box = {};
      std::array<uint64_t, INGOT_TENSOR_MAP_RANK> sizes = {}, strides = {};
      std::copy(m.box.begin(), m.box.end(), box.begin());
      std::copy(m.sizes.begin(), m.sizes.end(), sizes.begin());
      std::copy(m.strides.begin(), m.strides.end(), strides.begin());
      using Dims = flatbuffers::span<const uint64_t, INGOT_TENSOR_MAP_RANK>;
      out.emplace_back(k, m.binding, static_cast<uint32_t>(m.sizes.size()), flatbuffers::span<const uint32_t, INGOT_TENSOR_MAP_RANK>(box), m.offset, Dims(sizes),
                       Dims(strides));
    }
  return out;
}

Offset<schema::Variant> variant(FlatBufferBuilder &b, const Variant &v, const Layout &layout) {
  std::vector<Offset<schema::Executable>> executables;
  for (const Executable &e : v.executables)
    executables.push_back(schema::CreateExecutable(b, uint8_t(e.format), layout.index.at(e.segment)));
  std::vector<Offset<schema::Kernel>> kernels;
  for (const Kernel &k : v.kernels) kernels.push_back(kernel(b, k));
  std::vector<Offset<schema::Function>> functions;
  for (const Function &f : v.functions) functions.push_back(function(b, f, layout));
  auto target = b.CreateSharedString(v.target);
  auto arch = b.CreateSharedString(v.arch);
  auto executables_v = b.CreateVector(executables);
  auto kernels_v = b.CreateVector(kernels);
  auto functions_v = b.CreateVector(functions);
  Offset<schema::Function> prepare;
  if (v.prepare) prepare = function(b, *v.prepare, layout);
  const std::vector<schema::TensorMap> maps = tensor_maps(v);
  Offset<flatbuffers::Vector<const schema::TensorMap *>> maps_v;
  if (!maps.empty()) maps_v = b.CreateVectorOfStructs(maps);
  return schema::CreateVariant(b, target, arch, v.io_alignment, executables_v, kernels_v, functions_v, prepare, maps_v);
}

std::vector<uint8_t> metadata(const ArchiveModel &model, const Layout &layout) {
  FlatBufferBuilder b(64 * 1024);
  std::vector<Offset<schema::Segment>> segments;
  for (const auto &s : layout.stored)
    segments.push_back(schema::CreateSegment(b, b.CreateSharedString(s.segment->name), uint8_t(s.segment->kind),
                                             s.offset, s.segment->bytes.size(), s.alignment, s.xxh3));
  std::vector<Offset<schema::Variant>> variants;
  for (const Variant &v : model.variants) variants.push_back(variant(b, v, layout));
  const Provenance &p = model.provenance;
  auto compiler = b.CreateString(p.compiler);
  auto flags = b.CreateString(p.flags);
  auto source = b.CreateString(p.source_name);
  auto sha = b.CreateVector(p.source_sha256.data(), p.source_sha256.size());
  auto provenance = schema::CreateProvenance(b, compiler, flags, source, sha);
  auto segments_v = b.CreateVector(segments);
  auto variants_v = b.CreateVector(variants);
  schema::FinishArchiveBuffer(b, schema::CreateArchive(b, provenance, segments_v, variants_v));
  return std::vector<uint8_t>(b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize());
}

} // namespace

std::vector<uint8_t> write_archive(const ArchiveModel &model) {
  const Layout layout = lay_out(model);
  const std::vector<uint8_t> meta = metadata(model, layout);
  program::Header header = {};
  std::memcpy(header.magic, program::kMagic, sizeof header.magic);
  header.format_version = program::kFormatVersion;
  header.min_reader = 1;
  header.required_features = model.required_features;
  header.metadata_size = meta.size();
  header.data_offset = align_up(program::kHeaderSize + meta.size(), layout.alignment);
  header.file_size = header.data_offset + layout.size;
  header.metadata_xxh3 = XXH3_64bits(meta.data(), meta.size());
  header.header_xxh3 = XXH3_64bits(&header, program::kHeaderSize - 8);
  std::vector<uint8_t> out(header.file_size, 0);
  std::memcpy(out.data(), &header, sizeof header);
  std::memcpy(out.data() + program::kHeaderSize, meta.data(), meta.size());
  for (const auto &s : layout.stored)
    if (!s.segment->bytes.empty())
      std::memcpy(out.data() + header.data_offset + s.offset, s.segment->bytes.data(), s.segment->bytes.size());
  return out;
}

} // namespace ingot::aotc::archive
