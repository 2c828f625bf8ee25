// Links objects in memory into one ELF image that needs no dynamic loader: no imports, no relocations, no writable
// data. lld runs in this process; it keeps global state, so links take turns and no code is generated meanwhile.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <string>
#include <vector>

namespace ingot::aotc {

struct LinkedSymbol {
  std::string name;
  uint64_t offset = 0; // from the image's first byte in memory
  uint64_t size = 0;
};

struct LinkedImage {
  std::vector<uint8_t> elf;          // headers and the loaded segment; no section headers
  std::vector<LinkedSymbol> symbols; // functions, by name
  std::string error;                 // where the link failed: every undefined symbol, or what the image must not have
};

// `objects` in the order in which their code is laid out; the bytes depend on nothing else.
LinkedImage link_image(const std::vector<std::vector<uint8_t>> &objects);

// One object as a shared object for a loader that relocates it itself: code objects of AMD GPUs. No symbols are listed.
LinkedImage link_code_object(const std::vector<uint8_t> &object);

// Held shared by whoever runs LLVM passes, exclusively by a link (lld resets LLVM's global options).
std::shared_mutex &llvm_global_state();

} // namespace ingot::aotc
