// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: remembers how a checkpoint was stored, if the family's own inverse does not restore it:
// another stored form, alias names, or a family that was detected only by names. It is one line of
// text in the metadata of a fused checkpoint. With it, unfusing is the inverse of the fusion.
#ifndef SAFEFUSE_DETECT_STORED_SPELLING_HPP
#define SAFEFUSE_DETECT_STORED_SPELLING_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/layout/rename.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What to remember about a checkpoint that is fused.
struct spelling_to_keep {
    text value{};  ///< metadata value; empty if the family's own inverse restores the checkpoint
    std::size_t lost_count = 0;  ///< number of names that unfusing still does not restore
    text first_lost{};           ///< the first such name, as stored
    text first_lost_becomes{};   ///< the first such name, as unfusing writes it
};

/// The remembered spelling, parsed.
///   lifetime  the result of family() points into it; a move keeps it valid
class stored_spelling {
public:
    /// The key in a tensor file's metadata.
    static constexpr std::string_view metadata_key = "safefuse.stored_as";

    /// What to remember about a set that `fused_by` fuses.
    ///   own       the family as registered, with the hub's form and all renames
    ///   is_told   whether the model type identified the family; if not, names identified only how
    ///             the experts are stored
    ///   fails     file_changed, out_of_memory
    static result<spelling_to_keep> of(tensor_set_ref set, const family_description& fused_by,
                                       const family_description& own, bool is_told) noexcept;

    /// Parses the metadata value.
    ///   fails   bad_json (it is not such a text; the detail says why), out_of_memory
    static result<stored_spelling> parse(std::string_view value) noexcept;

    /// The family that restores the stored form, in direction::inverse.
    ///   fails   unknown_family (this version does not know it)
    template <class Families = shipped_families>
    [[nodiscard]] result<family_description> family() const noexcept {
        const family_description* const own = find_family<Families>(family_);
        if (own == nullptr) return failure{.code = errc::unknown_family, .detail = family_};
        return way_back(*own);
    }
    /// Whether the family was detected only by names.
    [[nodiscard]] bool is_experts_only() const noexcept { return experts_only_; }

private:
    result<family_description> way_back(const family_description& own) const noexcept {
        family_description out = experts_only_ ? experts_only(own) : own;
        if (form_ > own.forms.size())
            return failure{.code = errc::unknown_family, .detail = family_};
        if (form_ != 0) out = with_stored_form(out, own.forms[form_ - 1]);
        if (has_renames_) out.renames = rename_list{renames_.data(), renames_.size(), false};
        return out;
    }

    /// Removes and returns the text before the next `until`, and removes that character.
    static std::string_view take(std::string_view& rest, char until) noexcept;
    /// Adds "^from>to". Returns false if that is not a rename.
    ///   fails   out_of_memory
    result<bool> add_rename(std::string_view pair) noexcept;

    text family_;
    std::size_t form_ = 0;
    bool experts_only_ = false;
    bool has_renames_ = false;
    vector<text> patterns_;
    vector<rename_description> renames_;
};

namespace detail {

/// Finds the names of a set that a family's inverse does not restore.
class spelling_check {
public:
    spelling_check(const tensor_set_ref& set, const experts_scopes& scopes,
                   const family_description& by) noexcept
        : set_{set}, scopes_{scopes}, by_{by} {}

    /// Calls f(stored, model, module) for each renamed name; for a scope, with the prefix before
    /// its module.
    template <class F>
    result<void> each_name(F&& f) const noexcept {
        vector<bool> in_scope;
        if (!in_scope.resize(set_.size(), false)) return failure{.code = errc::out_of_memory};
        for (std::size_t s = 0; s < scopes_.size(); ++s) {
            const experts_scope scope = scopes_[s];
            for (const std::uint32_t member : scope.tensors) in_scope[member] = true;
            const module_description module = by_.module_at(scope.module);
            const std::size_t before = find_module_at_end(scope.name, module.from_path).first;
            if (before == std::string_view::npos) continue;
            if (auto done = f(scope.name.substr(0, before)); !done) return done;
        }
        for (std::size_t i = 0; i < set_.size(); ++i)
            if (!in_scope[i])
                if (auto done = f(set_.spec(i).name); !done) return done;
        return {};
    }

    /// Counts the names that `back` does not restore.
    result<void> count_lost(const rename_list& back, spelling_to_keep& out) const noexcept {
        out.lost_count = 0;
        return each_name([&](std::string_view stored) noexcept -> result<void> {
            const auto model = renamed(by_.renames, stored);
            if (!model) return model.error();
            auto returned = renamed(back, *model);
            if (!returned) return std::move(returned).error();
            if (returned->view() == stored || out.lost_count++ != 0) return {};
            out.first_lost = text{stored};
            out.first_lost_becomes = std::move(*returned);
            return {};
        });
    }

    /// The renames that change some name.
    result<vector<rename_description>> applied() const noexcept {
        vector<bool> seen;
        if (!seen.resize(by_.renames.size(), false)) return failure{.code = errc::out_of_memory};
        auto done = each_name([&](std::string_view stored) noexcept -> result<void> {
            text name{stored};
            bool memory = name.size() == stored.size();
            std::size_t r = 0;
            for (const rename_description each : by_.renames) {
                if (apply_rename(name, each, memory)) seen[r] = true;
                ++r;
            }
            return memory ? result<void>{} : failure{.code = errc::out_of_memory};
        });
        if (!done) return std::move(done).error();
        vector<rename_description> out;
        std::size_t r = 0;
        for (rename_description each : by_.renames) {
            // the inverse for this checkpoint reverses what changed it
            each.one_way = each.is_older = false;
            if (seen[r++] && !out.push(each)) return failure{.code = errc::out_of_memory};
        }
        return out;
    }

private:
    const tensor_set_ref& set_;
    const experts_scopes& scopes_;
    const family_description& by_;
};

}  // namespace detail

inline result<spelling_to_keep> stored_spelling::of(tensor_set_ref set,
                                                    const family_description& fused_by,
                                                    const family_description& own,
                                                    bool is_told) noexcept {
    spelling_to_keep out;
    const auto scopes = experts_scopes::find(set, fused_by);
    if (!scopes) return scopes.error();
    bool any = false;
    for (std::size_t s = 0; s < scopes->size(); ++s)
        any = any || (*scopes)[s].form != scope_state::done;
    // As in rewrite_plan: if all experts are in the model's form, so are the names.
    if (!any && (fused_by.renames.empty() || !fused_by.module_at(0).is_same())) return out;
    std::size_t form = 0;
    for (std::size_t i = 0; i < own.forms.size(); ++i)
        if (own.forms[i].module.from == fused_by.from &&
            own.forms[i].module.from_path == fused_by.from_module && fused_by.from != own.from)
            form = i + 1;

    const detail::spelling_check check{set, *scopes, fused_by};
    if (auto done = check.count_lost(own.renames.reversed(), out); !done)
        return std::move(done).error();
    bool has_renames = false;
    vector<rename_description> applied;
    if (is_told && out.lost_count != 0) {
        auto found = check.applied();
        if (!found) return std::move(found).error();
        applied = std::move(*found);
        has_renames = true;
        if (auto done = check.count_lost({applied.data(), applied.size(), true}, out); !done)
            return std::move(done).error();
    } else if (!is_told) {
        out.lost_count = 0;
        out.first_lost = out.first_lost_becomes = text{};
    }
    if (is_told && form == 0 && !has_renames) return out;
    bool memory = out.value.append("family=") && out.value.append(own.name) &&
                  out.value.append(";form=") && out.value.append_number(form) &&
                  (is_told || out.value.append(";experts_only"));
    if (has_renames) {
        memory = memory && out.value.append(";renames=");
        for (std::size_t i = 0; i < applied.size(); ++i)
            memory = memory && (i == 0 || out.value.append(",")) &&
                     (!applied[i].at_start || out.value.append("^")) &&
                     out.value.append(applied[i].from) && out.value.append(">") &&
                     out.value.append(applied[i].to);
    }
    if (!memory) return failure{.code = errc::out_of_memory};
    return out;
}

inline std::string_view stored_spelling::take(std::string_view& rest, char until) noexcept {
    std::size_t size = 0;
    while (size < rest.size() && rest[size] != until) ++size;
    const std::string_view out = rest.substr(0, size);
    rest.remove_prefix(size < rest.size() ? size + 1 : size);
    return out;
}

inline result<bool> stored_spelling::add_rename(std::string_view pair) noexcept {
    rename_description each{};
    each.at_start = pair.starts_with('^');
    if (each.at_start) pair.remove_prefix(1);
    text from{take(pair, '>')}, to{pair};
    if (!patterns_.push(std::move(from))) return failure{.code = errc::out_of_memory};
    const std::size_t first = patterns_.size() - 1;
    if (!patterns_.push(std::move(to)) || !renames_.push(each))
        return failure{.code = errc::out_of_memory};
    renames_.back().from = patterns_[first].view();
    renames_.back().to = patterns_[first + 1].view();
    return detail::is_rename(renames_.back());
}

inline result<stored_spelling> stored_spelling::parse(std::string_view value) noexcept {
    const auto bad = [&]() noexcept {
        failure out{.code = errc::bad_json, .detail = "not a valid description of a stored form: "};
        out.detail.append(value.substr(0, 80));
        return out;
    };
    stored_spelling out;
    for (std::string_view rest = value; !rest.empty();) {
        std::string_view item = take(rest, ';');
        if (item == "experts_only") {
            out.experts_only_ = true;
            continue;
        }
        const std::string_view key = take(item, '=');
        if (key == "family") {
            out.family_ = text{item};
        } else if (key == "form") {
            if (item.empty() || item.size() > 3) return bad();
            for (const char c : item) {
                if (c < '0' || c > '9') return bad();
                out.form_ = out.form_ * 10 + static_cast<std::size_t>(c - '0');
            }
        } else if (key == "renames") {
            out.has_renames_ = true;
            while (!item.empty()) {
                const auto added = out.add_rename(take(item, ','));
                if (!added) return added.error();
                if (!*added) return bad();
            }
        } else {
            return bad();
        }
    }
    if (out.family_.empty()) return bad();
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
