// Plants a fault in an archive: what a wrong compiler would have written.
//
//   plant ARCHIVE OUT NODE weight|opcode
//
// In the first dispatch that covers the node and has such a thing: `weight` changes one element of its largest constant,
// `opcode` turns one arithmetic instruction of its bytecode kernel into another one. Checksums are made to fit. Exit status 3:
// there is none.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "archive_generated.h"
#include "schemas/bytecode.h"
#include "schemas/header.h"
#include "schemas/program_words.h"
#include "src/runtime/archive/hash.h"

using namespace ingot;
using bytecode::Op;

namespace {

std::vector<uint8_t> file;
program::Header header;
std::unique_ptr<schema::ArchiveT> archive;

uint8_t *segment(uint32_t index) { return file.data() + header.data_offset + archive->segments[index]->offset; }

// Tries the dispatches that cover the node in order, until one can be changed.
bool change(const schema::FunctionT &f, size_t begin, size_t end, const std::string &node,
            const std::function<bool(const uint32_t *)> &change_dispatch) {
  using program::Opcode;
  for (size_t at = begin; at < end; at += f.commands[at] >> 8) {
    const uint32_t *w = &f.commands[at];
    const Opcode op = Opcode(w[0] & 0xff);
    bool done = false;
    if (op == Opcode::dispatch && w[2] != program::kNone) {
      const std::vector<std::string> &nodes = f.sites[w[2]]->nodes;
      done = std::find(nodes.begin(), nodes.end(), node) != nodes.end() && change_dispatch(w);
    } else if (op == Opcode::branch) {
      done = change(f, at + 4, at + 4 + w[2] + w[3], node, change_dispatch);
    } else if (op == Opcode::loop) {
      done = change(f, at + 5, at + 5 + w[4], node, change_dispatch);
    }
    if (done) return true;
  }
  return false;
}

bool change_weight(const schema::FunctionT &f, const uint32_t *w) {
  const schema::SlotT *largest = nullptr;
  int64_t most = 0;
  for (uint32_t b = 0; b < w[6]; ++b) {
    const schema::SlotT &slot = *f.slots[w[8 + 3 * b]];
    if (slot.kind != uint8_t(program::SlotKind::constant)) continue;
    const int64_t bytes = f.exprs[slot.size].value();
    if (bytes > most) most = bytes, largest = &slot;
  }
  if (!largest) return false;
  for (int64_t at = most / 8 * 4; at + 4 <= most; at += 4) {
    uint8_t *place = segment(largest->of) + largest->segment_offset + at;
    float value;
    std::memcpy(&value, place, 4);
    if (value == 0) continue; // padding
    value = value * -3 + 1;
    std::memcpy(place, &value, 4);
    return true;
  }
  return false;
}

bool change_opcode(const schema::VariantT &v, const uint32_t *w) {
  static const std::map<Op, Op> wrong = {
      {Op::add_f32, Op::sub_f32}, {Op::sub_f32, Op::add_f32}, {Op::mul_f32, Op::add_f32},   {Op::div_f32, Op::mul_f32},
      {Op::max_f32, Op::min_f32}, {Op::min_f32, Op::max_f32}, {Op::mad_f32, Op::select_32}, {Op::neg_f32, Op::abs_f32},
      {Op::abs_f32, Op::neg_f32}, {Op::add_i32, Op::sub_i32}, {Op::sqrt_f32, Op::neg_f32},  {Op::sum_f32, Op::most_f32}};
  const schema::CodeVersionT &version = *v.kernels[w[1]]->versions[0];
  uint8_t *kernel = segment(v.executables[version.executable]->segment) + version.symbol_offset;
  bytecode::Header h;
  std::memcpy(&h, kernel, sizeof h);
  uint8_t *code = kernel + sizeof h + h.memory_count * sizeof(bytecode::Memory);
  for (uint32_t at = 0; at < h.instruction_count;) {
    bytecode::Instruction i;
    std::memcpy(&i, code + at * sizeof i, sizeof i);
    const auto other = wrong.find(Op(i.op));
    if (other != wrong.end() && at >= h.body) {
      i.op = uint16_t(other->second);
      std::memcpy(code + at * sizeof i, &i, sizeof i);
      return true;
    }
    at += 1 + (Op(i.op) == Op::tile ? bytecode::extra_words(i.imm)
               : Op(i.op) == Op::shuffle_32 || Op(i.op) == Op::shuffle_64 ? bytecode::extra_words(i.n) : 0);
  }
  return false;
}

void write(const char *path) {
  for (auto &s : archive->segments) s->xxh3 = xxh3(file.data() + header.data_offset + s->offset, s->size);
  flatbuffers::FlatBufferBuilder b;
  schema::FinishArchiveBuffer(b, schema::Archive::Pack(b, archive.get()));
  const std::vector<uint8_t> data(file.begin() + long(header.data_offset), file.end());
  header.metadata_size = b.GetSize();
  header.data_offset = (sizeof header + b.GetSize() + 4095) / 4096 * 4096;
  header.file_size = header.data_offset + data.size();
  header.metadata_xxh3 = xxh3(b.GetBufferPointer(), b.GetSize());
  header.header_xxh3 = xxh3(&header, sizeof header - 8);
  std::vector<uint8_t> out(header.file_size);
  std::memcpy(out.data(), &header, sizeof header);
  std::memcpy(out.data() + sizeof header, b.GetBufferPointer(), b.GetSize());
  std::memcpy(out.data() + header.data_offset, data.data(), data.size());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(out.data()), long(out.size()));
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  std::ifstream in(argv[1], std::ios::binary);
  file.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  if (file.size() < sizeof header) return 2;
  std::memcpy(&header, file.data(), sizeof header);
  archive = schema::UnPackArchive(file.data() + sizeof header);
  const schema::VariantT &v = *archive->variants[0];
  const schema::FunctionT &f = *v.functions[0];
  const bool weight = std::strcmp(argv[4], "weight") == 0;
  if (!change(f, 0, f.commands.size(), argv[3],
              [&](const uint32_t *w) { return weight ? change_weight(f, w) : change_opcode(v, w); })) {
    std::fprintf(stderr, "plant: nothing to change in node '%s'\n", argv[3]);
    return 3;
  }
  write(argv[2]);
  return 0;
}
