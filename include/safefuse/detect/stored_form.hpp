// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the stored form of a family that a tensor set has: the hub's, or one that other tools
// write. Tensors that fit two of them and would give different bytes are an error.
#ifndef SAFEFUSE_DETECT_STORED_FORM_HPP
#define SAFEFUSE_DETECT_STORED_FORM_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/detect/detail/expert_like.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/detail/stages.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Whether some tensor belongs to shared experts.
inline bool has_shared_experts(const tensor_set_ref& set) noexcept {
    for (std::size_t i = 0; i < set.size(); ++i)
        for (std::string_view rest = set.spec(i).name; !rest.empty(); rest = after_segment(rest))
            if (const std::string_view segment = first_segment(rest);
                is_shared(segment) && has_word(segment, "expert") && !has_word(segment, "gate"))
                return true;
    return false;
}

/// A form of a family, and the scopes of a tensor set that have its names.
struct named_form {
    std::string_view name;
    family_description family;
    experts_scopes scopes;

    /// Whether a scope is in this form, judged only by names.
    [[nodiscard]] bool has(const experts_scope& scope) const noexcept {
        return scope.module == 0 &&
               (scope.form != scope_state::done || family.module_at(0).is_same());
    }
    [[nodiscard]] bool is_found() const noexcept {
        bool found = false;
        for (const experts_scope scope : scopes) found = found || has(scope);
        return found;
    }
};

inline result<named_form> find_form(const tensor_set_ref& set, std::string_view name,
                                    const family_description& family) noexcept {
    auto scopes = experts_scopes::find(set, family);
    if (!scopes) return std::move(scopes).error();
    return named_form{name, family, std::move(*scopes)};
}

/// How the scopes that have the names of two forms fit these forms.
struct form_comparison {
    bool first_fits = true;   ///< every such scope has the shapes of the first form
    bool second_fits = true;  ///< and of the second
    /// A scope from which the two forms make different bytes. Empty: none.
    std::string_view differs{};

    [[nodiscard]] bool is_ambiguous() const noexcept {
        return first_fits && second_fits && !differs.empty();
    }
};

/// Plans every scope that has the names of two forms, as the one and as the other.
///   fails   out_of_memory, file_changed
inline result<form_comparison> compare_forms(const tensor_set_ref& set, const named_form& first,
                                             const named_form& second,
                                             const plan_options& options) noexcept {
    const auto plan_as = [&](const experts_scope& scope, const named_form& form) noexcept {
        const plan_options only{.destination_scope = scope.destination_name,
                                .known_extents = options.known_extents,
                                .allow_missing_scales = true};
        return plan_members(set, scope.tensors, scope.name, *form.family.from, *form.family.to,
                            only);
    };
    // a plan that does not know which form its scales have fits, too
    const auto fits = [](const result<copy_plan>& plan) noexcept {
        return plan || plan.error().code == errc::ambiguous_form;
    };
    form_comparison out;
    for (const experts_scope scope : first.scopes)
        for (const experts_scope other : second.scopes) {
            if (scope.name != other.name || !first.has(scope) || !second.has(other)) continue;
            const auto one = plan_as(scope, first), two = plan_as(other, second);
            for (const auto* each : {&one, &two})
                if (!*each && (each->error().code == errc::out_of_memory ||
                               each->error().code == errc::file_changed))
                    return each->error();
            out.first_fits = out.first_fits && fits(one);
            out.second_fits = out.second_fits && fits(two);
            const bool same =
                one && two && (same_work(*one, *two) || one->size_bytes() + two->size_bytes() == 0);
            if (fits(one) && fits(two) && !same) out.differs = scope.name;
        }
    return out;
}

[[nodiscard]] SAFEFUSE_COLD inline failure two_stored_forms(const named_form& first,
                                                            const named_form& second,
                                                            std::string_view scope) noexcept {
    failure out{.code = errc::ambiguous_form, .scope = text{scope}};
    out.detail.append("of family ");
    out.detail.append(first.family.name);
    out.detail.append(": \"");
    out.detail.append(first.name);
    out.detail.append("\" and \"");
    out.detail.append(second.name);
    out.detail.append("\"; choose one by its name");
    return out;
}

}  // namespace detail

/// The family with the stored form that a tensor set has: the hub's, or one that other tools write.
/// If it has none of them, the hub's. If the names of some experts fit two forms, the shapes and
/// `options.known_extents` decide. The form of the model counts, too, under the name "model".
///   family    as declared, not read in direction::inverse
///   options   only known_extents are used
///   fails     ambiguous_form (the tensors fit two forms that make different bytes: choose one with
///             with_named_form), out_of_memory, file_changed
[[nodiscard]] inline result<family_description> with_stored_form_of(
    tensor_set_ref set, const family_description& family,
    const plan_options& options = {}) noexcept {
    family_description fused = family;
    fused.from = family.to;
    fused.from_module = family.to_module;
    const auto model = detail::find_form(set, "model", fused);
    if (!model) return model.error();
    detail::named_form best{"hub", family, {}};
    for (std::size_t i = 0; i <= family.forms.size(); ++i) {  // 0 is the hub's form
        const stored_form_description* const form = i == 0 ? nullptr : &family.forms[i - 1];
        if (form != nullptr && form->excludes_shared_experts && detail::has_shared_experts(set))
            continue;
        auto found = form == nullptr
                         ? detail::find_form(set, "hub", family)
                         : detail::find_form(set, form->name, with_stored_form(family, *form));
        if (!found) return std::move(found).error();
        if (found->family.module_at(0).is_same() || !found->is_found()) continue;
        const auto fused_too = detail::compare_forms(set, *found, *model, options);
        if (!fused_too) return fused_too.error();
        if (fused_too->is_ambiguous())
            return detail::two_stored_forms(*found, *model, fused_too->differs);
        const auto both = detail::compare_forms(set, best, *found, options);
        if (!both) return both.error();
        if (both->is_ambiguous()) return detail::two_stored_forms(best, *found, both->differs);
        if (best.scopes.size() == 0 || (!both->first_fits && both->second_fits))
            best = std::move(*found);
    }
    return best.family;
}

/// The family with the stored form of that name: "hub", or one of `forms`. Where none of these is
/// called "per-expert" and the hub stores experts one by one, the hub's form is that one.
///   fails    unknown_family (it has no such form; the detail lists those that it has)
[[nodiscard]] inline result<family_description> with_named_form(const family_description& family,
                                                                std::string_view name) noexcept {
    if (name == "hub") return family;
    failure none{.code = errc::unknown_family};
    none.detail.append("family ");
    none.detail.append(family.name);
    none.detail.append(" has no stored form \"");
    none.detail.append(name);
    none.detail.append("\": known are hub");
    for (std::size_t i = 0; i < family.forms.size(); ++i) {
        if (family.forms[i].name == name) {
            const family_description made = with_stored_form(family, family.forms[i]);
            // whoever writes experts under the model's names writes all else so, too
            const module_description of_form = made.module_at(0), of_hub = family.module_at(0);
            if (of_form.from_path == of_form.to_path && of_hub.from_path != of_hub.to_path)
                return experts_only(made);
            return made;
        }
        none.detail.append(", ");
        none.detail.append(family.forms[i].name);
    }
    if (name == "per-expert" && detail::is_per_expert(*family.from)) return family;
    return none;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
