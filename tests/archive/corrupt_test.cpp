// Damaged archives: truncated anywhere, any bit flipped, random bytes, and thousands of changes whose checksums are made
// right again. All are refused, or run safely on the null driver, which executes everything but native code.
#include <catch2/catch.hpp>

#include "tests/archive/hand_made.h"
#include "tests/archive/mutate.h"
#include "tests/archive/support.h"

using namespace support;

#ifndef INGOT_MUTATIONS
#define INGOT_MUTATIONS 10000
#endif

namespace {

std::vector<std::vector<uint8_t>> samples() {
  return {hand_made::add_scale(20), hand_made::free_add(), hand_made::nonzero(), hand_made::control_flow(),
          hand_made::gather(), hand_made::counter(), hand_made::empties(3), hand_made::prepared(6)};
}

ingot_code_t open_code(const std::vector<uint8_t> &bytes, std::string *message) {
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  *message = archive.message();
  return archive.status().code();
}

// Runs function 0 with memory that fits what `infer` says. Whatever happens must be an error, not a crash.
void run_anyhow(const std::vector<uint8_t> &bytes, int *opened, int *ran) {
  CountingAllocator bounded; // a changed size must not exhaust the machine
  bounded.limit = 16 << 20;
  const ingot_allocator_t allocator = bounded.get();
  Loaded l(bytes, "null", &allocator);
  if (!l.archive.ok()) return;
  ++*opened;
  if (!l.session.ok()) return;
  ingot_archive_t *archive = l.archive->get();
  ingot_function_info_t info;
  ingot_archive_function(archive, 0, 0, &info);
  if (info.input_count > 8 || info.output_count > 8) return;
  std::vector<std::vector<uint8_t>> memory;
  std::vector<ingot::Tensor> in(info.input_count), out(info.output_count);
  for (uint32_t i = 0; i < info.input_count; ++i) {
    ingot_signature_tensor_t s;
    ingot_archive_input(archive, 0, i, &s);
    in[i].type = s.type;
    in[i].rank = s.rank;
    uint64_t bytes_needed = ingot_element_type_bits(s.type) / 8;
    for (uint32_t d = 0; d < s.rank; ++d) {
      in[i].dims[d] = s.fixed_dims[d] >= 0 ? s.fixed_dims[d] : 5;
      bytes_needed *= uint64_t(in[i].dims[d]);
      if (bytes_needed > 1 << 20) return;
    }
    memory.emplace_back(bytes_needed + 16, uint8_t(1));
    in[i].data = memory.back().data();
    in[i].size = memory.back().size();
  }
  const auto span = [](std::vector<ingot::Tensor> &v) { return ingot::Span<ingot::Tensor>(v.data(), v.size()); };
  const auto const_span = [](std::vector<ingot::Tensor> &v) { return ingot::Span<const ingot::Tensor>(v.data(), v.size()); };
  if (!l.session->infer(const_span(in), span(out)).ok()) return;
  for (ingot::Tensor &t : out) {
    if (t.size > 1 << 20) return;
    memory.emplace_back(t.size + 1);
    t.data = memory.back().data();
  }
  auto context = l.session->context();
  if (!context.ok()) return;
  ingot_run_options_t options = {};
  options.struct_size = sizeof options;
  options.timeout_ns = 2000000; // a changed loop may be endless
  for (int round = 0; round < 2; ++round)
    if (context->run(const_span(in), span(out), &options).ok()) ++*ran;
  // The texts must be as safe as the run.
  char line[2000];
  uint32_t cursor = 0, depth = 0;
  while (ingot_archive_command_text(archive, 0, 0, &cursor, &depth, line, sizeof line)) REQUIRE(cursor < 1000000);
}

} // namespace

TEST_CASE("an archive cut anywhere is refused") {
  const std::vector<uint8_t> bytes = hand_made::add_scale(20);
  for (size_t size = 0; size < bytes.size(); size += size < 6000 ? 1 : 61) {
    std::string message;
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + long(size));
    const ingot_code_t code = open_code(cut, &message);
    REQUIRE(code == INGOT_CORRUPT);
    REQUIRE((contains(message, "truncated") || contains(message, "fewer than")));
  }
  std::vector<uint8_t> longer = bytes;
  longer.push_back(0);
  std::string message;
  CHECK(open_code(longer, &message) == INGOT_CORRUPT);
  CHECK(contains(message, "longer than it was written"));
}

TEST_CASE("a flipped bit is found, weights and padding included where hashes are asked for") {
  const std::vector<uint8_t> bytes = hand_made::add_scale(20);
  size_t late = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::vector<uint8_t> bad = bytes;
    bad[i] ^= uint8_t(1u << (i * 7 % 8));
    auto archive = ingot::Archive::open(bad.data(), bad.size());
    if (archive.ok()) {
      ++late;
      const ingot::Status status = archive->check_hashes();
      REQUIRE(status.code() == INGOT_CORRUPT);
    } else {
      REQUIRE(archive.status().code() == INGOT_CORRUPT);
    }
  }
  CHECK(late > 0);
  CHECK(late < bytes.size() / 2); // code and metadata are always checked
}

TEST_CASE("what is no archive is refused") {
  std::string message;
  CHECK(open_code({}, &message) == INGOT_CORRUPT);
  mutate::Random random{7};
  for (int round = 0; round < 300; ++round) {
    std::vector<uint8_t> noise(random.below(3000));
    for (uint8_t &b : noise) b = uint8_t(random.next());
    if (round % 3 == 0 && noise.size() >= 64) { // a right header over noise
      ingot::program::Header h = {};
      std::memcpy(h.magic, ingot::program::kMagic, 8);
      h.format_version = h.min_reader = 1;
      h.file_size = noise.size();
      h.metadata_size = noise.size() - 64;
      h.data_offset = (noise.size() + 63) / 64 * 64;
      std::memcpy(noise.data(), &h, sizeof h);
      mutate::repair(noise);
    }
    REQUIRE(open_code(noise, &message) == INGOT_CORRUPT);
  }
  auto archive = ingot::Archive::map("/nonexistent/model.ingot");
  CHECK(archive.status().code() == INGOT_NOT_FOUND);
  CHECK(contains(archive.message(), "/nonexistent/model.ingot: cannot open"));
  CHECK(ingot::Archive::map("/").status().code() == INGOT_IO);
}

TEST_CASE("newer archives are refused with what to do") {
  const auto with = [](uint32_t reader, uint64_t features) {
    std::vector<uint8_t> bytes = hand_made::empties(1);
    std::memcpy(bytes.data() + 12, &reader, 4);
    std::memcpy(bytes.data() + 16, &features, 8);
    mutate::repair(bytes);
    std::string message;
    const ingot_code_t code = open_code(bytes, &message);
    return std::to_string(code) + message;
  };
  CHECK(with(1, 0) == "0");
  CHECK(with(2, 0) == "7archive: needs a reader of version 2, this one is version 1: update Ingot");
  CHECK(contains(with(1, 4), "7archive: needs features 0x4"));
}

TEST_CASE("changed metadata with right checksums: refused, or run safely") {
  const auto all = samples();
  mutate::Random random{20261122};
  int opened = 0, ran = 0, total = 0;
  for (int round = 0; round < INGOT_MUTATIONS; ++round, ++total) {
    std::vector<uint8_t> bytes = all[random.below(uint32_t(all.size()))];
    for (uint32_t i = 0, n = 1 + random.below(4); i < n; ++i) mutate::damage(bytes, random);
    mutate::repair(bytes);
    run_anyhow(bytes, &opened, &ran);
  }
  INFO("of " << total << " archives, " << opened << " opened and " << ran << " runs went through");
  CHECK(opened > total / 100); // the damage is subtle enough to matter
  CHECK(opened < total);
  CHECK(ran > 0);
}
