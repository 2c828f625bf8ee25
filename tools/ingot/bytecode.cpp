#include "tools/ingot/bytecode.h"

#include <cstring>

#include "src/runtime/bytecode/program.h"

namespace ingot::tool {

std::vector<std::string> disassemble(const Archive &archive, uint32_t variant, uint32_t kernel,
                                     uint32_t version) {
  ingot_kernel_info_t k;
  ingot_version_info_t v;
  ingot_segment_info_t code;
  if (ingot_archive_kernel(archive.get(), variant, kernel, &k) != INGOT_OK ||
      ingot_archive_kernel_version(archive.get(), variant, kernel, version, &v) != INGOT_OK ||
      ingot_archive_segment(archive.get(), v.code_segment, &code) != INGOT_OK)
    return {"(cannot be read)"};
  if (std::strcmp(v.format, "bytecode") != 0) return {std::string("(") + v.format + " is not disassembled)"};
#if defined(INGOT_BYTECODE)
  const bytecode::Signature signature = {k.binding_count, k.param_count, k.binding_access};
  bytecode::Kernel loaded;
  ingot_error_t error;
  if (bytecode::verify(resolve_allocator(nullptr), static_cast<const uint8_t *>(code.data), code.size,
                       v.entry_offset, signature, &loaded, &error) != INGOT_OK)
    return {std::string("(") + error.message + ")"};
  std::vector<std::string> lines;
  for (uint32_t m = 0; m < loaded.header->memory_count; ++m) {
    static constexpr const char *kTypes[] = {"bool", "i8", "i16", "i32", "i64", "f32", "f64"};
    static constexpr const char *kAccess[] = {"?", "read", "write", "read_write"};
    const bytecode::Memory &memory = loaded.memories[m];
    lines.push_back(
        m < loaded.header->binding_count
            ? format("m%u binding %s %s", m, kTypes[unsigned(memory.storage)], kAccess[memory.access & 3])
            : format("m%u array %s [%llu]", m, kTypes[unsigned(memory.storage)],
                     (unsigned long long)memory.elements));
  }
  lines.push_back(format("%u slots of registers", loaded.header->slot_count));
  std::string text(8192, '\0');
  for (uint32_t at = 0; at < loaded.header->instruction_count;) {
    if (at == loaded.header->body) lines.push_back("once a workgroup:");
    const uint32_t words = bytecode::disassemble(loaded, at, text.data(), text.size());
    lines.push_back(format("%5u  ", at) + text.c_str());
    at += words;
  }
  return lines;
#else
  return {"(this build has no bytecode)"};
#endif
}

} // namespace ingot::tool
