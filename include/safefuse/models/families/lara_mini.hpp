// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Lara mini: the projections of a gated delta net are one matrix on the hub.
#ifndef SAFEFUSE_MODELS_FAMILIES_LARA_MINI_HPP
#define SAFEFUSE_MODELS_FAMILIES_LARA_MINI_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// The projections of a gated delta net. On the hub they are one matrix: q and k have K heads of D
/// rows, v and z have V heads of P rows, and b and a have one row for each of the V heads.
using delta_q = matrix<"q", "K", "D", "H">;
using delta_k = matrix<"k", "K", "D", "H">;
using delta_v = matrix<"v", "V", "P", "H">;
using delta_z = matrix<"z", "V", "P", "H">;
using delta_b = matrix<"b", "V", "H">;
using delta_a = matrix<"a", "V", "H">;
using delta_weight = field<"weight", field_role::value, 1, 1, 1>;
using delta_joined =
    layout<suffixes<suffix<delta_weight, ".weight">>,
           tensor<"in_proj", concat<0, flatten<0, delta_q>, flatten<0, delta_k>,
                                    flatten<0, delta_v>, flatten<0, delta_z>, delta_b, delta_a>>>;
using delta_apart = layout<
    suffixes<suffix<delta_weight, ".weight">>,
    tensor<"in_proj_qkv", concat<0, flatten<0, delta_q>, flatten<0, delta_k>, flatten<0, delta_v>>>,
    tensor<"in_proj_z", flatten<0, delta_z>>, tensor<"in_proj_b", delta_b>,
    tensor<"in_proj_a", delta_a>>;

/// Lara mini: stored fused; the projections of its gated delta nets are one matrix on the hub.
struct lara_mini : family<"lara_mini", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    using extra_modules =
        extra_module_list<extra_module<at_path<"linear_attn">, delta_joined, delta_apart>>;
    using config_extents = extents_in_config<extent_in_config<"K", "linear_num_key_heads">,
                                             extent_in_config<"D", "linear_key_head_dim">,
                                             extent_in_config<"V", "linear_num_value_heads">,
                                             extent_in_config<"P", "linear_value_head_dim">>;
    static constexpr rename_description renames[] = {
        rename("linear_attn.out_norm", "linear_attn.norm")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
