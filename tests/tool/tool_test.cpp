// The ingot tool's own parts: element conversion, .npy, specs, comparison. Seeded cases beside the named ones.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <random>

#include "tools/ingot/compare.h"
#include "tools/ingot/failure.h"
#include "tools/ingot/npy.h"
#include "tools/ingot/spec.h"

using namespace ingot::tool;
using ingot::ElementType;

namespace {

std::vector<ElementType> all_types() {
  std::vector<ElementType> out;
  for (ElementType t = 1; t < INGOT_ELEMENT_TYPE_COUNT; ++t) out.push_back(t);
  return out;
}

// What a call complains of; "" where it does not.
template <class F>
std::string complaint(F f) {
  try {
    f();
    return "";
  } catch (const Failure &failure) {
    return failure.what();
  }
}

bool equal(const HostTensor &a, const HostTensor &b) {
  return a.type == b.type && std::memcmp(a.bytes.data(), b.bytes.data(), byte_size(a.type)) == 0;
}

std::string npy_bytes(const HostTensor &t) { // as write_npy would make it, for types of whole bytes
  return npy_header(t.type) + std::string(reinterpret_cast<const char *>(t.bytes.data()), byte_size(t.type));
}

} // namespace

TEST_CASE("small floats decode and encode as their formats say") {
  const struct {
    ElementType type;
    uint64_t bits;
    double value;
  } cases[] = {{INGOT_ELEMENT_TYPE_F16, 0x3c00, 1},          {INGOT_ELEMENT_TYPE_F16, 0x7bff, 65504},
               {INGOT_ELEMENT_TYPE_F16, 0x0001, 0x1p-24},    {INGOT_ELEMENT_TYPE_F16, 0xfc00, -HUGE_VAL},
               {INGOT_ELEMENT_TYPE_BF16, 0x3f80, 1},         {INGOT_ELEMENT_TYPE_BF16, 0xc000, -2},
               {INGOT_ELEMENT_TYPE_F8E4M3FN, 0x7e, 448},     {INGOT_ELEMENT_TYPE_F8E4M3FN, 0x38, 1},
               {INGOT_ELEMENT_TYPE_F8E4M3FNUZ, 0x7f, 240},   {INGOT_ELEMENT_TYPE_F8E5M2, 0x7b, 57344},
               {INGOT_ELEMENT_TYPE_F8E5M2FNUZ, 0x7f, 57344}, {INGOT_ELEMENT_TYPE_F4E2M1, 7, 6},
               {INGOT_ELEMENT_TYPE_F4E2M1, 9, -0.5},         {INGOT_ELEMENT_TYPE_F8E8M0, 127, 1}};
  for (const auto &c : cases) {
    HostTensor t = make_tensor({c.type, {1}});
    set_element_bits(t, 0, c.bits);
    INFO(ingot_element_type_name(c.type) << " 0x" << std::hex << c.bits);
    CHECK(element(t, 0) == c.value);
    REQUIRE(set_element(t, 0, c.value));
    CHECK(element_bits(t, 0) == c.bits);
  }
}

TEST_CASE("every code of a small float survives decoding and encoding") {
  for (ElementType type : all_types()) {
    const uint32_t bits = ingot_element_type_bits(type);
    if (!is_float(type) || bits > 16) continue;
    HostTensor t = make_tensor({type, {2}});
    for (uint64_t code = 0; code < uint64_t(1) << bits; ++code) {
      set_element_bits(t, 1, code);
      const double value = element(t, 1);
      if (std::isnan(value)) continue; // NaN has many codes
      REQUIRE(set_element(t, 1, value));
      if (element_bits(t, 1) != code)
        FAIL(ingot_element_type_name(type) << " code " << code << " became " << element_bits(t, 1));
    }
  }
}

TEST_CASE("rounding is to nearest, ties to even") {
  std::mt19937_64 random(3);
  HostTensor t = make_tensor({INGOT_ELEMENT_TYPE_F16, {1}});
  HostTensor low = make_tensor({INGOT_ELEMENT_TYPE_F16, {1}});
  for (int n = 0; n < 20000; ++n) {
    const uint64_t code = random() % 0x7bff;
    set_element_bits(low, 0, code);
    const double a = element(low, 0);
    set_element_bits(low, 0, code + 1);
    const double b = element(low, 0), part = double(random() % 1025) / 1024;
    set_element(t, 0, a + (b - a) * part);
    const uint64_t expected = part < 0.5 ? code : part > 0.5 ? code + 1 : code % 2 ? code + 1 : code;
    if (element_bits(t, 0) != expected) FAIL(a << " + " << part);
  }
}

TEST_CASE("integers are checked against their range") {
  HostTensor t = make_tensor({INGOT_ELEMENT_TYPE_I4, {3}});
  CHECK(set_integer(t, 1, -8));
  CHECK(set_integer(t, 2, 7));
  CHECK_FALSE(set_integer(t, 0, 8));
  CHECK(element(t, 0) == 0);
  CHECK(element(t, 1) == -8);
  CHECK(element_text(t, 2) == "7");
  HostTensor u = make_tensor({INGOT_ELEMENT_TYPE_U64, {1}});
  CHECK(set_unsigned(u, 0, UINT64_MAX));
  CHECK(element_text(u, 0) == "18446744073709551615");
  CHECK_FALSE(set_integer(u, 0, -1));
}

TEST_CASE("types print and parse back") {
  for (ElementType type : all_types())
    for (const std::vector<int64_t> &dims : {std::vector<int64_t>{}, {0}, {2, 3}, {1, 1, 1, 1, 1, 1, 1, 7}}) {
      TensorType parsed;
      REQUIRE(parse_type(to_text({type, dims}), &parsed));
      CHECK(parsed == TensorType{type, dims});
    }
  TensorType parsed;
  for (const char *bad :
       {"", "x", "2x", "2xf31", "f32x2", "-1xf32", "2 x3xf32", "99999999999999999999xf32", "2x3", "2x?xf32"})
    CHECK_FALSE(parse_type(bad, &parsed));
}

TEST_CASE(".npy files of every type come back as they were written") {
  char folder[] = "/tmp/ingot-tool-XXXXXX";
  REQUIRE(mkdtemp(folder));
  const std::string path = std::string(folder) + "/a.npy";
  uint64_t seed = 0;
  for (ElementType type : all_types())
    for (const std::vector<int64_t> &dims : {std::vector<int64_t>{}, {0}, {5}, {2, 3, 7}}) {
      if (type == INGOT_ELEMENT_TYPE_STRING || type == INGOT_ELEMENT_TYPE_VALUE)
        continue; // JSON holds these (suite values)
      HostTensor t = make_tensor({type, dims});
      fill_random(t, ++seed);
      write_npy(path, t);
      INFO(to_text(t.type));
      CHECK(equal(to_tensor(read_npy(path), type, path), t));
    }
  std::remove(path.c_str());
  std::remove(folder);
}

TEST_CASE("hostile .npy files are refused or read, never more") {
  HostTensor t = make_tensor({INGOT_ELEMENT_TYPE_F32, {3, 5}});
  fill_random(t, 1);
  const std::string good = npy_bytes(t);
  std::mt19937_64 random(17);
  int refused = 0, read = 0;
  for (int n = 0; n < 20000; ++n) {
    std::string bad = good;
    if (n % 4 == 0) bad.resize(random() % bad.size());
    for (uint64_t k = random() % 4; k > 0 && !bad.empty(); --k) {
      const size_t at = random() % (random() % 4 ? std::min<size_t>(bad.size(), 90) : bad.size());
      static constexpr char kChars[] = "{}(),:'0123456789<>|fiubcVOSU \n\\-x\xff";
      bad[at] = random() % 2 ? kChars[random() % (sizeof kChars - 1)] : char(random());
    }
    const std::vector<uint8_t> exact(bad.begin(), bad.end());
    const std::string why = complaint([&] {
      const HostTensor out =
          to_tensor(parse_npy(exact.data(), exact.size(), "x.npy"), INGOT_ELEMENT_TYPE_F32, "x.npy");
      if (byte_size(out.type) > out.bytes.size()) FAIL("dims beyond the data");
    });
    ++(why.empty() ? read : refused);
    if (!why.empty() && why.find("x.npy") == std::string::npos)
      FAIL("a message without the file's name: " << why);
  }
  CHECK(refused > 1000);
  CHECK(read > 1000);
}

TEST_CASE("specs name inputs whose names hold colons, slashes and equals signs") {
  const std::vector<Signature> inputs = {{"input:0", {INGOT_ELEMENT_TYPE_F32, {2}}},
                                         {"a=b", {INGOT_ELEMENT_TYPE_F32, {2}}},
                                         {"a", {INGOT_ELEMENT_TYPE_F32, {2}}},
                                         {"2xf32", {INGOT_ELEMENT_TYPE_F32, {2}}}};
  const auto specs =
      resolve_names({"a=b=2xf32=1", "input:0=@x.npy", "a=random:3", "2xf32=2xf32=4"}, inputs, "input");
  REQUIRE(specs.size() == 4);
  CHECK(specs[0].index == 1);
  CHECK(specs[1].index == 0);
  CHECK(specs[1].body == "@x.npy");
  CHECK(specs[2].index == 2);
  CHECK(specs[3].index == 3);
  CHECK(resolve_names({"2xf32=1,2"}, inputs, "input")[0].index == 0); // a type in front of values, not a name
}

TEST_CASE("values are read exactly, a single one is given to all") {
  const Signature any = {"x", {INGOT_ELEMENT_TYPE_F32, {}}};
  CHECK(values_text(parse_tensor("3xi64=-9223372036854775808,0,9223372036854775807", any), 9) ==
        "[-9223372036854775808 0 9223372036854775807]");
  CHECK(values_text(parse_tensor("2x2xf32=0.1", any), 9) == "[[0.1 0.1]\n [0.1 0.1]]");
  CHECK(values_text(parse_tensor("4xf32=inf,-inf,nan,1e-45", any), 9) == "[inf -inf nan 1e-45]");
  CHECK(values_text(parse_tensor("bool=true", any), 9) == "true");
  CHECK(values_text(parse_tensor("0x3xf32=", any), 9) == "(no elements)");
  CHECK(values_text(parse_tensor("5xu2=0,1,2,3,1", any), 3) == "[0 1 2 ... 2 more");
  CHECK(equal(parse_tensor("7xf32=random:5", any), parse_tensor("7xf32=random:5", any)));
  CHECK_FALSE(equal(parse_tensor("7xf32=random:5", any), parse_tensor("7xf32=random:6", any)));
}

TEST_CASE("agreement follows the documented rule") {
  const Signature any = {"x", {INGOT_ELEMENT_TYPE_F32, {}}};
  const auto differ = [&](const char *a, const char *r, Tolerance t = {}) {
    return disagreement(parse_tensor(a, any), parse_tensor(r, any), t);
  };
  CHECK(differ("3xf32=1,2,3", "3xf32=1,2,3").empty());
  CHECK(differ("3xf32=1.0012,2,3", "3xf32=1,2,3").empty()); // 1e-3 * 1 + 1e-4 * 3
  CHECK_FALSE(differ("3xf32=1.0014,2,3", "3xf32=1,2,3").empty());
  CHECK_FALSE(differ("3xf32=nan,2,3", "3xf32=1,2,3").empty());
  CHECK_FALSE(differ("3xf32=0,0,0", "3xf32=0,0,0").empty()); // proves nothing
  CHECK_FALSE(differ("3xf32=7,7,7", "3xf32=7,7,7").empty());
  CHECK_FALSE(differ("2xf32=inf,1", "2xf32=inf,1").empty());
  CHECK(differ("2xf32=inf,nan", "2xf32=inf,nan", {0.0, 0.0}).empty());
  CHECK_FALSE(differ("2xf32=-inf,1", "2xf32=inf,1", {1.0, 1.0}).empty());
  CHECK_FALSE(differ("2xf32=1,1", "2xf32=inf,1", {1.0, 1.0}).empty());
  CHECK(differ("3xi32=1,2,3", "3xi32=1,2,3").empty());
  CHECK_FALSE(differ("3xi32=1,2,4", "3xi32=1,2,3", {9.0, 9.0}).empty()); // integers are equal or not
  CHECK_FALSE(differ("3xf32=1,2,3", "1x3xf32=1,2,3").empty());
  CHECK_FALSE(differ("3xf64=1,2,3", "3xf32=1,2,3").empty());
}

namespace {

HostTensor tensor_of(ElementType type, const std::vector<double> &values) {
  HostTensor t = make_tensor({type, {int64_t(values.size())}});
  for (size_t i = 0; i < values.size(); ++i) set_element(t, int64_t(i), values[i]);
  return t;
}

} // namespace

TEST_CASE("a difference is measured in ULP, at its worst, and in the tensor's scale") {
  const Tolerance exact;
  const HostTensor r = tensor_of(INGOT_ELEMENT_TYPE_F32, {1, -8, 0, 2});
  CHECK(compare(r, r, exact).wrong == 0);
  CHECK(compare(r, r, exact).ulp == 0u);
  HostTensor a = tensor_of(INGOT_ELEMENT_TYPE_F32, {1 + 0x1p-22, -8, -0.0, 2.5});
  Difference d = compare(a, r, exact);
  CHECK(d.wrong == 2);
  CHECK(d.first == 0);
  CHECK(d.at == 3);
  CHECK(d.error == 0.5);
  CHECK(d.peak == 8);
  CHECK(d.ulp == uint64_t(1) << 21); // 2 to 2.5; both zeros are one number
  Tolerance ulps;
  ulps.ulp = 2;
  CHECK(compare(a, r, ulps).wrong == 1);
  // Across zero the distances add up.
  for (ElementType type : {INGOT_ELEMENT_TYPE_F16, INGOT_ELEMENT_TYPE_BF16, INGOT_ELEMENT_TYPE_F32, INGOT_ELEMENT_TYPE_F64}) {
    HostTensor low = make_tensor({type, {1}}), high = make_tensor({type, {1}});
    set_element_bits(low, 0, 3 | uint64_t(1) << (ingot_element_type_bits(type) - 1));
    set_element_bits(high, 0, 4);
    CHECK(compare(low, high, exact).ulp == 7u);
  }
}

TEST_CASE("what is not finite agrees only with itself") {
  Tolerance wide;
  wide.absolute = 1e30;
  const std::vector<double> values = {1, HUGE_VAL, -HUGE_VAL, NAN};
  for (size_t i = 0; i < values.size(); ++i)
    for (size_t k = 0; k < values.size(); ++k) {
      const Difference d = compare(tensor_of(INGOT_ELEMENT_TYPE_F32, {values[i]}), tensor_of(INGOT_ELEMENT_TYPE_F32, {values[k]}), wide);
      CHECK(d.wrong == (i != k));
      CHECK(d.error == (i != k ? HUGE_VAL : 0));
    }
}

TEST_CASE("integers are equal unless a tolerance is for them, too") {
  const HostTensor a = tensor_of(INGOT_ELEMENT_TYPE_I8, {1, 2, 3}), r = tensor_of(INGOT_ELEMENT_TYPE_I8, {1, 3, 5});
  Tolerance t;
  t.absolute = 1;
  CHECK(compare(a, r, t).wrong == 2);
  CHECK(compare(a, r, t).error == 2);
  CHECK_FALSE(compare(a, r, t).ulp.has_value());
  t.integers = true;
  CHECK(compare(a, r, t).wrong == 1);
  CHECK(compare(a, r, t).first == 2);
}
