// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Aria: experts are stored fused and transposed, under other names.
#ifndef SAFEFUSE_MODELS_FAMILIES_ARIA_HPP
#define SAFEFUSE_MODELS_FAMILIES_ARIA_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// fc1 [E, H, 2I], gate's columns first, and fc2 [E, I, H].
using aria_experts =
    layout<module_suffixes, tensor<"fc1", stack<transpose<0, 1, concat<0, gate, up>>>>,
           tensor<"fc2", stack<transpose<0, 1, down>>>>;

/// Rhymes AI's Aria: stored fused and transposed, under other names.
struct aria : family<"aria", aria_experts, gate_up_transposed> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr rename_description renames[] = {
        always(optional_rename("^language_model.lm_head", "lm_head")),
        always(rename("^language_model.model", "model.language_model")),
        always(rename("^vision_tower", "model.vision_tower")),
        always(rename("^multi_modal_projector", "model.multi_modal_projector"))};
};

/// Only the language model of Aria.
struct aria_text : family<"aria_text", aria_experts, gate_up_transposed> {
    using forms = one_by_one<at_path<"mlp.experts">>;
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
