// The legaliser's passes, in the order in which legalise() runs them. Each rewrites the whole kernel and throws
// Unsupported, with what to do, where the target cannot express something.
#pragma once

#include <string>

#include "aotc/kernel/rewrite.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::kernel {

struct Unsupported {
  std::string message;
};

// Float remainders as an exact integer loop.
void expand_remainders(Kernel &kernel);

// Divisions of f32 by constants as products, on GPUs with fma.
void expand_divisions(Kernel &kernel, const TargetRecord &target);

// Dot products that the target does not have, as products and sums in i32.
void expand_dots(Kernel &kernel, const TargetRecord &target);

// Fragments whose matrix unit the target lacks as shuffles and scalar code, copies under way as loads and stores.
void expand_fragments(Kernel &kernel, const TargetRecord &target);

// f16 and bf16 that the target does not compute with: values become f32, rounded after every op that is not exact;
// buffers hold i16, arrays f32.
void lower_half(Kernel &kernel, const TargetRecord &target);

// i8 and i16 that the target does not compute with, and bool, i8 and i16 buffers that it does not store: values become
// sign-extended i32, buffers i32 words in the same layout (so bindings have to be padded to whole words), arrays i32.
// Words of written buffers that several threads may share are changed by atomic adds.
void lower_small_integers(Kernel &kernel, const TargetRecord &target);

// i64 where the target has none: values become two i32, or one where their range is known to fit; buffers and arrays
// hold pairs of i32, low first.
void lower_i64(Kernel &kernel, const TargetRecord &target);

// Vectors of more lanes than the target has become several.
void split_vectors(Kernel &kernel, const TargetRecord &target);

} // namespace ingot::aotc::kernel
