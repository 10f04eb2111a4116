// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: lists of families, and searches by name. Families are found as data or as types.
#ifndef SAFEFUSE_MODELS_REGISTRY_HPP
#define SAFEFUSE_MODELS_REGISTRY_HPP

#include <string_view>

#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/models/transformers.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A list of families to search: shipped_families, or a list of your own. Its members are
/// instantiated only when used.
template <class... Family>
struct family_list {
private:
    static constexpr family_description list[] = {description_of<Family>...};

public:
    /// The families as data, in the order of the list.
    static constexpr span<const family_description> all{list};

    /// Calls `f.template operator()<Family>()` with the type of a family in `all`. Returns false if
    /// the family is null or not in the list.
    template <class F>
    static constexpr bool visit(const family_description* family, F& f) {
        const family_description* each = list;
        return ((family == each++ && (f.template operator()<Family>(), true)) || ...);
    }
};

/// All families that the library ships.
using shipped_families = family_list<
    families::qwen2_moe, families::aria, families::aria_text, families::axk1, families::axk2,
    families::bailing_hybrid, families::dbrx, families::deepseek_ocr2, families::deepseek_v4,
    families::dots3_note, families::ernie4_5_moe, families::ernie4_5_vl_moe, families::exaone_moe,
    families::flint, families::gemma4, families::glm5_next, families::gpt_oss, families::granitemoe,
    families::granitemoe_swa, families::hy_v3, families::hy_v4, families::hy_v4_vl,
    families::hy_v4_vl_text, families::inkling2, families::inkling2_loop,
    families::inkling2_loop_text, families::inkling2_text, families::inkling_mm_model,
    families::inkling_text, families::jamba, families::jetmoe, families::kimi_k25,
    families::kimi_linear, families::kolibri1, families::laguna, families::lara_mini,
    families::lfm2_moe, families::llama4, families::longcat_flash, families::mimo_v2_flash,
    families::minimax_m3_vl, families::mistral4, families::mistral_large4,
    families::mistral_large4_text, families::mixtral, families::nemo_speechlm, families::nemotron_h,
    families::nemotron_h_omni, families::openai_privacy_filter, families::phimoe,
    families::qwen3_5_moe_text, families::qwen3_omni_moe, families::qwen3_omni_moe_thinker,
    families::qwen3_vl_moe, families::qwen4_exp, families::qwen4_exp_text, families::sarvam_moe,
    families::step3p7, families::unlimited_ocr>;

/// The family with this name or model type, or null.
template <class Families = shipped_families>
[[nodiscard]] constexpr const family_description* find_family(std::string_view name) noexcept {
    for (const family_description& each : Families::all) {
        if (each.name == name) return &each;
        for (const std::string_view type : each.model_types)
            if (type == name) return &each;
    }
    return nullptr;
}

namespace detail {

inline text family_names(span<const family_description> families) noexcept {
    text out{"known are "};
    for (const family_description& each : families) {
        if (&each != families.data()) out.append(", ");
        out.append(each.name);
    }
    return out;
}

}  // namespace detail

/// The names of all families, for messages.
template <class Families = shipped_families>
text family_names() noexcept {
    return detail::family_names(Families::all);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
