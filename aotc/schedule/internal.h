// The tuned schedules, one function a form. Each gives nothing where the dispatch is not of its form.
#pragma once

#include <optional>

#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

// Lanes of a vector of elements of `bytes` along an axis: the record's, for simd. Block kernels take no more than the axis
// is expected to fill, since lanes past its end cost as much as others.
uint32_t lanes_along(const TargetRecord &record, uint32_t bytes, const Expr &extent);

// Lanes along the innermost stored axis; reductions over other axes stay loops over vectors.
std::optional<Scheduled> schedule_lanes(const dispatch::Dispatch &d, const TargetRecord &record);
// Row reductions over a contiguous axis: softmax, normalisations, sums.
std::optional<Scheduled> schedule_rows(const dispatch::Dispatch &d, const TargetRecord &record);
// Sums of products: matrix products and convolutions.
std::optional<Scheduled> schedule_contract(const dispatch::Dispatch &d, const TargetRecord &record);
// Sums of products of bytes in i32, by dot products.
std::optional<Scheduled> schedule_dot(const dispatch::Dispatch &d, const TargetRecord &record);
// Attention: a running softmax between two contractions, scores never in memory.
std::optional<Scheduled> schedule_attention(const dispatch::Dispatch &d, const TargetRecord &record);
// Convolutions in blocks of channels (aotc/layout).
std::optional<Scheduled> schedule_direct(const dispatch::Dispatch &d, const TargetRecord &record);
// The same for bytecode, by tile ops.
std::optional<Scheduled> schedule_block_contract(const dispatch::Dispatch &d, const TargetRecord &record);
// Recurrences: the steps' kernels in one, each step by `schedule_step`.
Scheduled schedule_sequence(const dispatch::Dispatch &d, const TargetRecord &record,
                            Scheduled (*schedule_step)(const dispatch::Dispatch &, const TargetRecord &));
// Depthwise convolutions: sums of products over a window with the channel in both factors.
std::optional<Scheduled> schedule_window(const dispatch::Dispatch &d, const TargetRecord &record);

// Threads with workgroup memory: sums of products by tiles; rows by a workgroup each.
// The same of few rows, on matrix units of f16 in memory, and any.
std::optional<Scheduled> schedule_simt_few_rows(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_fragments(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_contract(const dispatch::Dispatch &d, const TargetRecord &record);
// Depthwise convolutions and pooling: windows whose inputs a thread keeps.
std::optional<Scheduled> schedule_simt_window(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_attention_fragments(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_attention(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_transpose(const dispatch::Dispatch &d, const TargetRecord &record);
std::optional<Scheduled> schedule_simt_rows(const dispatch::Dispatch &d, const TargetRecord &record);
// A step of a sequence, for workgroups of step_threads(record) threads.
Scheduled schedule_simt_step(const dispatch::Dispatch &d, const TargetRecord &record);
// A thread a row of the independent axes, `threads` a workgroup.
Scheduled schedule_simt_each(const dispatch::Dispatch &d, const TargetRecord &record, uint32_t threads);

} // namespace ingot::aotc::schedule
