// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: shared layouts for heads of q and k in the order of rotary embeddings with complex
// numbers: rows of the two halves of a head alternate.
#ifndef SAFEFUSE_MODELS_FAMILIES_ROPE_HPP
#define SAFEFUSE_MODELS_FAMILIES_ROPE_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// q, k and v of a vision tower: one matrix for each of L layers, with N heads of 2P rows. In q and
/// k, rows of the two halves of a head alternate on the hub; in the model, one half follows the
/// other.
using rope_weight = field<"weight", field_role::value, 1, 1, 1>;
using rope_bias = field<"bias", field_role::addend, 1, 1, 0>;
using rope_fields = suffixes<suffix<rope_weight, ".weight">, suffix<rope_bias, ".bias">>;
template <fixed_text Name>
struct rope_half : part_of<expert_range<"L">, Name, "N", "P", "D"> {};
template <class First, class Second>
using rope_in_turn = flatten<0, interleave<1, 1, First, Second>>;
template <class First, class Second>
using rope_in_a_row = flatten<0, concat<1, First, Second>>;
using rope_q_first = rope_half<"q_first">;
using rope_q_second = rope_half<"q_second">;
using rope_k_first = rope_half<"k_first">;
using rope_k_second = rope_half<"k_second">;
using rope_v_first = rope_half<"v_first">;
using rope_v_second = rope_half<"v_second">;
using rope_qkv =
    concat<0, rope_in_turn<rope_q_first, rope_q_second>, rope_in_turn<rope_k_first, rope_k_second>,
           rope_in_a_row<rope_v_first, rope_v_second>>;

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
