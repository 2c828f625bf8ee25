// Integer products: matrix products and convolutions of 8-bit values compute on the bytes themselves.
//
// Importers give the meaning: values less their zero points, in i32 (MatMulInteger, ConvInteger, QLinear...), or times a
// scale besides, in f32 (DequantizeLinear). Here such products become contract and conv of u8 by i8 in i32:
//
//   before                                            after
//   %a = sub(convert i32 %qa, za)                     %s = contract(%qa, %qb)            u8 x i8 -> i32
//   %b = sub(convert i32 %qb, zb)                     %r = %s - za sum_k(%qb) - zb sum_k(%qa) + K za zb
//   %r = contract(%a, %b)
//
// which is equal in i32, overflow included. Bytes of the other sign are moved by 128, and their zero point with them. The sums
// over weights are constants; those over the left side are there only where the right one has a zero point. Padding of
// a convolution is the zero point, which a pad op adds before.
//
// Matrix units take bytes of either sign, and their schedules guard loads: there bytes are moved only where the zero point becomes 0
// by that and it saves something, and a convolution whose padding is 0 keeps it.
//
//   %a = mul(convert f32 (%qa - za), sa)              %r = mul(convert f32 (integer product), sa * sb)
//   %b = mul(convert f32 (%qb - zb), sb)
//   %r = contract(%a, %b)
//
// is the exact sum rounded once, where the float product rounds every step: done only where all that uses the result ends, by
// elementwise ops, in a conversion to 8 bits, and where scales and zero points do not vary over what is summed.
//
// A maximum over windows of dequantised values takes the bytes as well; it is equal.
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::quantise {

// Assumes a verified graph; sub-graphs stay as they are.
graph::Function integer_products(const graph::Function &function, bool matrix_units);

} // namespace ingot::aotc::quantise
