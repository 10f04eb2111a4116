// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: detects how experts are stored if the model type is not known. It uses only the tensor
// names.
#ifndef SAFEFUSE_DETECT_DETECT_EXPERTS_HPP
#define SAFEFUSE_DETECT_DETECT_EXPERTS_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

inline result<family_description> detect_experts(const tensor_set_ref& set,
                                                 span<const family_description> families,
                                                 direction way) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    const auto chosen = one_of_each_kind(set, longest_number(families));
    if (!chosen) return chosen.error();
    const tensor_set_ref kinds{*chosen};
    // a family fits if its renames and extra modules are all present; if no family fits, any family
    // that spells the experts this way may be meant
    vector<const family_description*> fitting, spelling;
    for (const family_description& each : families) {
        const auto score = score_family(set, kinds, each.in(way));
        if (!score) return score.error();
        if (*score == 0) continue;
        if (!(*score >= 2 ? fitting : spelling).push(&each)) return no_memory;
    }
    if (fitting.empty()) fitting = std::move(spelling);
    if (fitting.empty())
        return failure{.code = errc::unknown_family, .detail = family_names(families)};
    if (auto done = keep_plannable(set, kinds, fitting, way); !done) return done.error();
    if (auto done = add_lookalikes(set, kinds, families, fitting, way); !done) return done.error();

    text candidates;
    bool same = true;
    const family_description first = experts_only(fitting[0]->in(way));
    const auto plan = plan_first(set, kinds, first);
    for (const family_description* const each : fitting) {
        if (!candidates.empty()) candidates.append(", ");
        candidates.append(each->name);
        if (each == fitting[0]) continue;
        const auto other = plan_first(set, kinds, experts_only(each->in(way)));
        same = same && plan && other && same_work(*plan, *other);
    }
    // If the experts move to another module, the tensors next to them must follow, and only a
    // family knows their names there.
    if (same && first.from_module == first.to_module) return experts_only(*fitting[0]);
    return failure{.code = errc::ambiguous_family, .detail = std::move(candidates)};
}

inline result<family_description> detect_fused(const tensor_set_ref& set,
                                               span<const family_description> families) noexcept {
    family_description kept{};
    bool found = false;
    for (const family_description& each : families) {
        family_description model = experts_only(each);
        model.from = model.to;
        model.from_module = model.to_module;
        const auto scopes = experts_scopes::find(set, model);
        if (!scopes) return scopes.error();
        if (scopes->experts_count() == 0) continue;
        bool all = true;
        for (std::size_t s = 0; all && s < scopes->experts_count(); ++s) {
            const auto made = plan_found(set, model, (*scopes)[s], of_any_type);
            if (!made && made.error().code == errc::out_of_memory) return made.error();
            all = made.has_value();
        }
        if (!found || all) kept = model;
        found = true;
        if (all) break;
    }
    if (!found) return failure{.code = errc::unknown_family, .detail = family_names(families)};
    return kept;
}

}  // namespace detail

/// Detects how the experts of a tensor set are stored, from the names alone, for an unknown model
/// type. The returned family plans the experts and leaves all other tensors and names unchanged.
/// All families that fit must produce the same experts under the same names.
///   way     direction::inverse: the experts are in the model's form, and the stored form is wanted
///   fails   unknown_family (no experts in that form), ambiguous_family (the families that fit
///            produce different results, or move the experts to another module and other tensors
///            must follow; the detail lists the candidates), out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<family_description> detect_experts(
    tensor_set_ref set, direction way = direction::forward) noexcept {
    return detail::detect_experts(set, Families::all, way);
}

/// Returns a family whose model stores experts as this tensor set does. Both directions change
/// nothing: there is nothing to fuse.
///   fails    unknown_family (no experts are in any model's form), out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<family_description> detect_fused(tensor_set_ref set) noexcept {
    return detail::detect_fused(set, Families::all);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
