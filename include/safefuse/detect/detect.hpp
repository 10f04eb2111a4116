// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: detects the family of a checkpoint by its model_type, or otherwise by the names of its
// tensors.
#ifndef SAFEFUSE_DETECT_DETECT_HPP
#define SAFEFUSE_DETECT_DETECT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detail/name_patterns.hpp>
#include <safefuse/models/registry.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// How the renames of a family match the names of a tensor set.
struct rename_fit {
    /// every rename that identifies the family matches some name, if all renames are applied in
    /// order
    bool all = true;
    bool others = false;  ///< a spelling of another family was found
    /// how many renames match the names as stored, without applying the renames before them
    std::uint32_t stored = 0;
};

inline result<rename_fit> fit_renames(const tensor_set_ref& set, const experts_scopes& scopes,
                                      const rename_list& renames) noexcept {
    if (renames.empty()) return rename_fit{};
    // by rename: 1 if it matches when applied in order, plus 2 if it matches names as stored
    vector<std::uint8_t> seen;
    // most tensors are expert tensors; one of each scope is enough to see how its name changes
    vector<bool> is_expert;
    if (!seen.resize(renames.size(), 0) || !is_expert.resize(set.size(), false))
        return failure{.code = errc::out_of_memory};
    for (std::size_t s = 0; s < scopes.experts_count(); ++s)
        for (const std::uint32_t member : scopes[s].tensors.subspan(1)) is_expert[member] = true;
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (is_expert[i]) continue;
        text name{set.spec(i).name};
        bool memory = name.size() == set.spec(i).name.size();
        std::size_t r = 0;
        for (const rename_description each : renames) {
            if (find_rename(set.spec(i).name, each).first != std::string_view::npos) seen[r] |= 2;
            if (apply_rename(name, each, memory)) seen[r] |= 1;
            ++r;
        }
        if (!memory) return failure{.code = errc::out_of_memory};
    }
    rename_fit fit;
    std::size_t r = 0;
    for (const rename_description each : renames) {
        const std::uint8_t found = seen[r++];
        fit.others = fit.others || (each.one_way && (found & 1) != 0);
        if (!each.tells_family) continue;
        fit.all = fit.all && (found & 1) != 0;
        fit.stored += (found & 2) != 0 ? 1u : 0u;
    }
    return fit;
}

/// For plans that are only inspected, not run.
inline constexpr plan_options of_any_type{.allow_missing_scales = true};

/// Whether any experts are in the source form of a family. If both forms use the same names, it
/// makes plans, because only the shapes differ.
inline result<bool> has_source_form(const tensor_set_ref& set, const experts_scopes& kinds,
                                    const family_description& family) noexcept {
    bool named = false;
    for (std::size_t i = 0; !named && i < kinds.experts_count(); ++i)
        named = kinds[i].form != scope_state::done;
    if (!named || !spelled_alike(*family.from, *family.to)) return named;
    const auto scopes = experts_scopes::find(set, family);
    if (!scopes) return scopes.error();
    bool fits = false;
    for (std::size_t i = 0; !fits && i < scopes->experts_count(); ++i) {
        if ((*scopes)[i].form == scope_state::done) continue;
        const auto made = plan_found(set, family, (*scopes)[i], of_any_type);
        if (!made && made.error().code == errc::out_of_memory) return made.error();
        fits = !made || made->source_form() != scope_state::done;
    }
    return fits;
}

/// How well a family fits a tensor set. 0: it finds no experts to plan. 1: some declared modules or
/// renames are missing. Larger values: better fits.
///   kinds   the same set, or a subset with at least one tensor of each kind of name
inline result<std::uint32_t> score_family(const tensor_set_ref& set, const tensor_set_ref& kinds,
                                          const family_description& family) noexcept {
    auto scopes = experts_scopes::find(kinds, family);
    if (!scopes) return std::move(scopes).error();
    const auto fits = has_source_form(set, *scopes, family);
    if (!fits) return fits.error();
    if (!*fits) return std::uint32_t{0};
    const auto renames = fit_renames(kinds, *scopes, family.renames);
    if (!renames) return renames.error();
    bool all = renames->all;
    std::uint32_t told = renames->stored;
    for (std::uint32_t m = 1; m < family.module_count(); ++m) {
        bool found = false;
        for (std::size_t i = scopes->experts_count(); i < scopes->size(); ++i)
            found = found || (*scopes)[i].module == m;
        all = all && found;
        told += found ? 1 : 0;
    }
    return !all ? 1u : family.is_inverse ? 2u : 2u + 2u * told + (renames->others ? 0u : 1u);
}

/// Whether two plans make the same outputs from the same bytes.
inline bool same_work(const copy_plan& a, const copy_plan& b) noexcept {
    if (a.outputs().size() != b.outputs().size() || a.blocks().size() != b.blocks().size())
        return false;
    for (std::size_t i = 0; i < a.outputs().size(); ++i) {
        const plan_output &one = a.outputs()[i], &other = b.outputs()[i];
        if (one.name != other.name || one.type != other.type || !same_shape(one.shape, other.shape))
            return false;
    }
    for (std::size_t i = 0; i < a.blocks().size(); ++i)
        if (!(a.blocks()[i] == b.blocks()[i])) return false;
    return true;
}

constexpr bool is_under(std::string_view name, std::string_view scope) noexcept {
    return name.size() > scope.size() && name[scope.size()] == '.' && name.starts_with(scope);
}

/// Plans the first experts of a family. They are found in `kinds` and planned from `set`.
inline result<copy_plan> plan_first(const tensor_set_ref& set, const tensor_set_ref& kinds,
                                    const family_description& family) noexcept {
    const auto scopes = experts_scopes::find(kinds, family);
    if (!scopes) return scopes.error();
    if (scopes->experts_count() == 0) return failure{.code = errc::no_experts};
    const experts_scope first = (*scopes)[0];
    chosen_tensors nearby{set};
    for (std::size_t i = 0; i < set.size(); ++i) {
        const std::string_view name = set.spec(i).name;
        if ((is_under(name, first.name) || is_under(name, first.destination_name)) &&
            !nearby.add(i))
            return failure{.code = errc::out_of_memory};
    }
    const auto whole = experts_scopes::find(nearby, family);
    if (!whole) return whole.error();
    for (std::size_t s = 0; s < whole->experts_count(); ++s) {
        experts_scope scope = (*whole)[s];
        if (scope.name != first.name) continue;
        vector<std::uint32_t> members;
        for (const std::uint32_t member : scope.tensors)
            if (!members.push(nearby.number(member))) return failure{.code = errc::out_of_memory};
        scope.tensors = members.view();
        return plan_found(set, family, scope, of_any_type);
    }
    return failure{.code = errc::no_experts};
}

/// Whether two families plan a tensor set alike. Compares the plans of its first experts, and all
/// its names.
inline result<bool> same_work(const tensor_set_ref& set, const tensor_set_ref& kinds,
                              const family_description& a, const family_description& b) noexcept {
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        const auto one = renamed(a, kinds.spec(i).name), other = renamed(b, kinds.spec(i).name);
        if (!one || !other) return failure{.code = errc::out_of_memory};
        if (one->view() != other->view()) return false;
    }
    {
        const auto one = plan_first(set, kinds, a), other = plan_first(set, kinds, b);
        if (!one || !other || !same_work(*one, *other)) return false;
    }
    auto scopes = experts_scopes::find(kinds, a), others = experts_scopes::find(kinds, b);
    for (bool all = false;; all = true) {
        if (!scopes || !others) return failure{.code = errc::out_of_memory};
        if (scopes->size() != others->size() || scopes->experts_count() != others->experts_count())
            return false;
        // the other experts are like the first
        if (scopes->experts_count() == scopes->size()) return true;
        if (all) break;
        scopes = experts_scopes::find(set, a), others = experts_scopes::find(set, b);
    }
    for (std::size_t i = scopes->experts_count(); i < scopes->size(); ++i) {
        const auto one = plan_found(set, a, (*scopes)[i], of_any_type);
        const auto other = plan_found(set, b, (*others)[i], of_any_type);
        if (!one || !other || !same_work(*one, *other)) return false;
    }
    return true;
}

/// Keeps the candidates whose experts can be planned: for example, more gates than down matrices
/// rule out a family. If no candidate can be planned, it keeps the first, whose plan will report
/// the problem.
inline result<void> keep_plannable(const tensor_set_ref& set, const tensor_set_ref& kinds,
                                   vector<const family_description*>& candidates,
                                   direction way) noexcept {
    if (candidates.size() < 2) return {};
    vector<const family_description*> kept;
    for (const family_description* const each : candidates) {
        const auto plan = plan_first(set, kinds, each->in(way));
        if (!plan && plan.error().code == errc::out_of_memory) return plan.error();
        if (plan && !kept.push(each)) return failure{.code = errc::out_of_memory};
    }
    if (kept.empty() && !kept.push(candidates[0])) return failure{.code = errc::out_of_memory};
    candidates = std::move(kept);
    return {};
}

/// Adds families whose hub form equals the model form, because the names may come from them. Only
/// when unfusing, or if a candidate has the same names in both forms.
inline result<void> add_lookalikes(const tensor_set_ref& set, const tensor_set_ref& kinds,
                                   span<const family_description> families,
                                   vector<const family_description*>& candidates,
                                   direction way) noexcept {
    bool any = way == direction::inverse;
    for (const family_description* const each : candidates)
        any = any || spelled_alike(*each->from, *each->to);
    for (const family_description& each : families) {
        if (!any || !each.module_at(0).is_same()) continue;
        const auto plan = plan_first(set, kinds, each.in(way));
        if (!plan && plan.error().code == errc::out_of_memory) return plan.error();
        if (plan && !candidates.push(&each)) return failure{.code = errc::out_of_memory};
    }
    return {};
}

/// The number of digits of the longest number that is a whole segment in a pattern of the family.
inline std::size_t longest_number(const family_description& family) noexcept {
    std::size_t digits = 0;
    const auto look_at = [&](std::string_view pattern) noexcept {
        if (const std::size_t found = longest_number(pattern); found > digits) digits = found;
    };
    for (const rename_description each : family.renames) look_at(each.from), look_at(each.to);
    for (std::size_t m = 0; m < family.module_count(); ++m) {
        const module_description module = family.module_at(m);
        look_at(module.from_path), look_at(module.to_path);
        for (const layout_description* layout : {module.from, module.to}) {
            for (const tensor_description& tensor : layout->tensors) look_at(tensor.name);
            for (const field_suffix& field : layout->fields) look_at(field.suffix);
        }
    }
    return digits;
}

/// The number of digits of the longest number that is a whole segment in a pattern of a family.
inline std::size_t longest_number(span<const family_description> families) noexcept {
    std::size_t digits = 0;
    for (const family_description& each : families)
        if (const std::size_t found = longest_number(each); found > digits) digits = found;
    return digits;
}

inline result<const family_description*> detect_family(const tensor_set_ref& set,
                                                       span<const family_description> families,
                                                       direction way) noexcept {
    const auto chosen = one_of_each_kind(set, longest_number(families));
    if (!chosen) return chosen.error();
    const tensor_set_ref kinds{*chosen};
    vector<const family_description*> best;
    std::uint32_t best_score = 1;
    for (const family_description& each : families) {
        const auto score = score_family(set, kinds, each.in(way));
        if (!score) return score.error();
        if (*score < best_score) continue;
        if (*score > best_score) best.clear();
        best_score = *score;
        if (!best.push(&each)) return failure{.code = errc::out_of_memory};
    }
    if (best.empty())
        return failure{.code = errc::unknown_family, .detail = family_names(families)};
    if (auto done = keep_plannable(set, kinds, best, way); !done) return done.error();
    if (auto done = add_lookalikes(set, kinds, families, best, way); !done) return done.error();
    text candidates{best[0]->name};
    bool is_tied = false;
    for (std::size_t i = 1; i < best.size(); ++i) {
        const auto same = same_work(set, kinds, best[0]->in(way), best[i]->in(way));
        if (!same) return same.error();
        if (*same) continue;
        is_tied = true;
        candidates.append(", ");
        candidates.append(best[i]->name);
    }
    if (is_tied) return failure{.code = errc::ambiguous_family, .detail = std::move(candidates)};
    return best[0];
}

}  // namespace detail

/// Detects the family of a tensor set by its tensor names, from the stored form or, in
/// direction::inverse, from the model's form.
/// - If families have the same stored names for experts, a family whose renames and extra modules
///   are all present is preferred, then the one with more matching renames. Among families that
///   would plan this set alike, the first is chosen.
/// - Mixtral and Phi-MoE store the same names but load them under different ones, so they are
///   ambiguous.
/// - In the model's form most families use the same names. There no family is preferred to another
///   one that could have produced these names.
///
///   fails   unknown_family, ambiguous_family (the detail lists the candidates), out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<const family_description*> detect_family(
    tensor_set_ref set, direction way = direction::forward) noexcept {
    return detail::detect_family(set, Families::all, way);
}

/// Calls `f.template operator()<Family>()` with the family that has this name or model type.
/// Returns whether there is one: `visit_family(config->model_type, [&]<class Family>() { plan =
/// sf::plan<Family>(checkpoint, scope); })`.
template <class Families = shipped_families, class F>
constexpr bool visit_family(std::string_view name, F&& f) {
    return Families::visit(find_family<Families>(name), f);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
