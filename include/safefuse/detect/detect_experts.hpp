// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: detects how experts are stored if the model type is not known. It uses only the tensor
// names.
#ifndef SAFEFUSE_DETECT_DETECT_EXPERTS_HPP
#define SAFEFUSE_DETECT_DETECT_EXPERTS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detail/expert_like.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// The description of a family for one direction.
constexpr const family_description& way_of(const family_entry& family, bool unfuse) noexcept {
    return unfuse ? family.unfuse : family.fuse;
}

/// Whether some tensor belongs to shared experts.
inline bool has_shared_experts(const tensor_set_ref& set) noexcept {
    for (std::size_t i = 0; i < set.size(); ++i)
        for (std::string_view rest = set.spec(i).name; !rest.empty(); rest = after_segment(rest))
            if (const std::string_view segment = first_segment(rest);
                is_shared(segment) && has_word(segment, "expert") && !has_word(segment, "gate"))
                return true;
    return false;
}

/// Whether experts are stored in the source form of a family, judged only by names.
inline result<bool> has_stored(const tensor_set_ref& set,
                               const family_description& family) noexcept {
    const auto scopes = experts_scopes::find(set, family);
    if (!scopes) return scopes.error();
    bool found = false;
    for (std::size_t s = 0; !found && s < scopes->experts_count(); ++s)
        found = (*scopes)[s].form != scope_state::done;
    return found;
}

inline result<family_entry> detect_experts(const tensor_set_ref& set,
                                           span<const family_entry> families,
                                           bool unfuse) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    std::size_t spelled_digits = 0;
    for (const family_entry& each : families)
        if (const std::size_t digits = longest_number(each.fuse); digits > spelled_digits)
            spelled_digits = digits;
    const auto chosen = one_of_each_kind(set, spelled_digits);
    if (!chosen) return chosen.error();
    const tensor_set_ref kinds{*chosen};
    // a family fits if its renames and extra modules are all present; if no family fits, any family
    // that spells the experts this way may be meant
    vector<const family_entry*> fitting, spelling;
    for (const family_entry& each : families) {
        const auto score = score_family(set, kinds, way_of(each, unfuse), unfuse);
        if (!score) return score.error();
        if (*score == 0) continue;
        if (!(*score >= 2 ? fitting : spelling).push(&each)) return no_memory;
    }
    if (fitting.empty()) fitting = std::move(spelling);
    if (fitting.empty())
        return failure{.code = errc::unknown_family, .detail = family_names(families)};
    if (auto done = keep_plannable(set, kinds, fitting, unfuse); !done) return done.error();
    if (auto done = add_lookalikes(set, kinds, families, fitting, unfuse); !done)
        return done.error();

    text candidates;
    bool same = true;
    const family_description first = experts_only(way_of(*fitting[0], unfuse));
    const auto plan = plan_first(set, kinds, first);
    for (const family_entry* const each : fitting) {
        if (!candidates.empty()) candidates.append(", ");
        candidates.append(each->fuse.name);
        if (each == fitting[0]) continue;
        const auto other = plan_first(set, kinds, experts_only(way_of(*each, unfuse)));
        same = same && plan && other && same_work(*plan, *other);
    }
    // If the experts move to another module, the tensors next to them must follow, and only a
    // family knows their names there.
    if (same && first.from_module == first.to_module)
        return family_entry{experts_only(fitting[0]->fuse), experts_only(fitting[0]->unfuse)};
    return failure{.code = errc::ambiguous_family, .detail = std::move(candidates)};
}

inline result<family_entry> detect_fused(const tensor_set_ref& set,
                                         span<const family_entry> families) noexcept {
    family_entry kept{};
    bool found = false;
    for (const family_entry& each : families) {
        family_description model = experts_only(each.fuse);
        model.from = model.to;
        model.from_module = model.to_module;
        const auto scopes = experts_scopes::find(set, model);
        if (!scopes) return scopes.error();
        if (scopes->experts_count() == 0) continue;
        bool all = true;
        for (std::size_t s = 0; all && s < scopes->experts_count(); ++s) {
            const auto made = plan(set, (*scopes)[s], model, direction::forward, of_any_type);
            if (!made && made.error().code == errc::out_of_memory) return made.error();
            all = made.has_value();
        }
        if (!found || all) kept = {model, model};
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
///   unfuse   the experts are in the model's form, and the stored form is wanted
///   fails    unknown_family (no experts in that form), ambiguous_family (the families that fit
///            produce different results, or move the experts to another module and other tensors
///            must follow; the detail lists the candidates), out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<family_entry> detect_experts(tensor_set_ref set,
                                                  bool unfuse = false) noexcept {
    return detail::detect_experts(set, Families::all, unfuse);
}

/// Returns a family whose model stores experts as this tensor set does. Both directions change
/// nothing: there is nothing to fuse.
///   fails    unknown_family (no experts are in any model's form), out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<family_entry> detect_fused(tensor_set_ref set) noexcept {
    return detail::detect_fused(set, Families::all);
}

/// The family with the stored form that a tensor set has: the hub's, or one that other tools write.
/// If it has none of them, the hub's.
///   fails    out_of_memory, file_changed
[[nodiscard]] inline result<family_entry> with_stored_form_of(tensor_set_ref set,
                                                              const family_entry& family) noexcept {
    const auto in_hub_form = detail::has_stored(set, family.fuse);
    if (!in_hub_form) return in_hub_form.error();
    // if the hub's form has the same names as the model's form, finding it proves nothing
    if (*in_hub_form && !family.fuse.module_at(0).is_same()) return family;
    for (std::size_t i = 0; i < family.fuse.forms.size(); ++i) {
        const stored_form_description& form = family.fuse.forms[i];
        if (form.excludes_shared_experts && detail::has_shared_experts(set)) continue;
        const family_entry other{with_stored_form(family.fuse, form),
                                 with_stored_form(family.unfuse, form)};
        const auto stored = detail::has_stored(set, other.fuse);
        if (!stored) return stored.error();
        if (*stored) return other;
    }
    return family;
}

/// The family with the stored form of that name: "hub", or one of `forms`. Where none of these is
/// called "per-expert" and the hub stores experts one by one, the hub's form is that one.
///   fails    unknown_family (it has no such form; the detail lists those that it has)
[[nodiscard]] inline result<family_entry> with_named_form(const family_entry& family,
                                                          std::string_view name) noexcept {
    if (name == "hub") return family;
    failure none{.code = errc::unknown_family};
    none.detail.append("family ");
    none.detail.append(family.fuse.name);
    none.detail.append(" has no stored form \"");
    none.detail.append(name);
    none.detail.append("\": known are hub");
    for (std::size_t i = 0; i < family.fuse.forms.size(); ++i) {
        if (family.fuse.forms[i].name == name) {
            family_entry made{with_stored_form(family.fuse, family.fuse.forms[i]),
                              with_stored_form(family.unfuse, family.fuse.forms[i])};
            // whoever writes experts under the model's names writes all else so, too
            const module_description of_form = made.fuse.module_at(0),
                                     of_hub = family.fuse.module_at(0);
            if (of_form.from_path == of_form.to_path && of_hub.from_path != of_hub.to_path)
                made = {experts_only(made.fuse), experts_only(made.unfuse)};
            return made;
        }
        none.detail.append(", ");
        none.detail.append(family.fuse.forms[i].name);
    }
    if (name == "per-expert" && detail::is_per_expert(*family.fuse.from)) return family;
    return none;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
