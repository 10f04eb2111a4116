// safefuse: from two layouts and the tensors of one scope to a copy_plan: names, shapes and dtypes are checked here, before any
// byte is read.
#ifndef SAFEFUSE_PLAN_HPP
#define SAFEFUSE_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/copy_plan.hpp>
#include <safefuse/detail/array.hpp>
#include <safefuse/detail/checked.hpp>
#include <safefuse/detail/compose.hpp>
#include <safefuse/detail/layout_names.hpp>
#include <safefuse/detail/plain.hpp>
#include <safefuse/family.hpp>
#include <safefuse/layout.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/tensor_set.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// An extent that is known beforehand, from config.json say.
struct known_extent {
    std::string_view name;    ///< "E" is the number of experts
    std::uint64_t value = 0;  ///< elements along it
};

/// Which part of a scope is planned, under which name, and what is known of it.
struct plan_options {
    /// The scope of the outputs; empty: that of the source.
    std::string_view destination_scope{};
    /// Only these experts, numbered as in the source; end is exclusive, no_number: all of them.
    std::uint64_t first_expert = 0;
    std::uint64_t end_expert = no_number;  ///< one behind the last; no_number: to the end
    /// Only the entries [first, end) of the extent of that name ("I", say): one rank of a tensor-parallel group. Empty: all.
    std::string_view sliced_extent{};
    std::uint64_t slice_first = 0;        ///< first entry that is kept
    std::uint64_t slice_end = no_number;  ///< one behind the last; no_number: to the end
    /// With more than one rank, the range is rank `slice_rank` of as many equal ones instead, and `sliced_extent` may name several
    /// extents, with a space between them.
    std::uint64_t slice_rank = 0;
    std::uint64_t slice_ranks = 1;  ///< 1: the range above counts
    /// What names and shapes must agree with, and what tells extents that they do not show (E where experts are flattened into
    /// rows). Extents that a layout does not have are passed over.
    sequence<const known_extent> known_extents{};
    /// Move quantised codes (F8, F4, F6, integers) whose scales are missing.
    bool unscaled_codes = false;
};

static_assert(detail::max_loops <= max_copy_loops);

/// Makes plans from layouts as data; the function templates `plan` below are its callers.
class plan_maker {
public:
    /// Plans the tensors `members` of `set`, whose names begin with `scope` and a dot, from one layout to the other.
    ///   fails   as `plan`
    static result<copy_plan> make(tensor_set_ref set, sequence<const std::uint32_t> members, std::string_view scope,
                                  const layout_description& from, const layout_description& to, const plan_options& options,
                                  experts_form form = experts_form::from) noexcept {
        detail::source_check check{set};
        for (const std::uint32_t i : members)
            if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
        plan_maker maker{set, scope, from, to, options};
        maker.plan_.form_ = form;
        result<void> done = maker.name_symbols();
        if (done) done = maker.match_names(members);
        if (done) done = maker.find_experts();
        if (done) done = maker.choose_forms();
        if (done) done = maker.check_scales();
        if (done) done = maker.choose_slice();
        if (done) done = maker.make_outputs();
        if (done) done = maker.order_blocks();
        if (!done) {
            if (done.error().scope.empty()) done.error().scope = text{scope};
            return std::move(done).error();
        }
        return std::move(maker.plan_);
    }

private:
    static constexpr std::uint32_t absent = ~std::uint32_t{0};
    static constexpr std::uint64_t most_claimed_experts = 65'536;  // a hundred times what any model has

    /// A tensor of the set that is field `field` of tensor `tensor` of the source's layout.
    struct found_tensor {
        std::uint32_t tensor;
        std::uint32_t field;
        std::uint64_t expert;
        std::uint32_t index;
    };
    /// The experts that have the parts of a tensor, as symbols.
    struct experts_symbols {
        std::uint8_t count = no_symbol;
        std::uint8_t behind = no_symbol;
    };
    static constexpr std::uint8_t no_symbol = max_symbols;

    /// Where a part comes from.
    struct part_origin {
        std::uint32_t tensor = absent;
        std::uint32_t part = 0;
    };

    plan_maker(tensor_set_ref set, std::string_view scope, const layout_description& from, const layout_description& to,
               const plan_options& options) noexcept
        : set_{set}, scope_{scope}, from_{from}, to_{to}, options_{options}, plan_{set} {}

    [[nodiscard]] SAFEFUSE_RARE failure fault(errc code, std::uint32_t tensor, std::string_view detail = {}) const noexcept {
        return {.code = code,
                .file = text{set_.source_name(set_.place(tensor).source)},
                .tensor = text{set_.spec(tensor).name},
                .scope = text{scope_},
                .detail = text{detail}};
    }
    SAFEFUSE_RARE static failure no_memory() noexcept { return {.code = errc::out_of_memory}; }

    /// The full name of a tensor of the source's layout, whether it is there or not.
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE text source_name(std::uint32_t tensor, std::uint32_t field,
                                                        std::uint64_t expert) const noexcept {
        text out{scope_};
        out.append(".");
        detail::spell(out, from_.tensors[tensor].name, expert, from_.fields[field].suffix);
        return out;
    }

    /// The same for the first expert of its group.
    [[nodiscard]] text first_name(std::uint32_t tensor, std::uint32_t field) const noexcept {
        return source_name(tensor, field, first_expert_of(groups_[tensor]));
    }

    /// Slot in `table_` of a field of a tensor for an expert; tensors that hold all experts use expert 0.
    [[nodiscard]] std::uint32_t& slot(std::uint32_t tensor, std::uint32_t field, std::uint64_t expert) noexcept {
        return table_[(tensor * from_.fields.size() + field) * rows_ + static_cast<std::size_t>(expert)];
    }
    [[nodiscard]] bool has(std::uint32_t tensor, std::uint32_t field) const noexcept {
        return present_[tensor * from_.fields.size() + field];
    }
    /// How many tensors of the set a tensor of the source's layout is: one for each expert, or one.
    [[nodiscard]] std::uint64_t experts_in(std::uint32_t tensor) const noexcept {
        return from_.tensors[tensor].per_expert() ? extents_.values[groups_[tensor].count] : 1;
    }
    /// The number of the first expert of a tensor of the source's layout.
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE std::uint64_t first_expert_of(experts_symbols group) const noexcept {
        std::uint64_t first = 0;
        for (std::uint8_t s = group.behind; s != no_symbol; s = symbol_behind(s)) first += extents_.values[s];
        return first;
    }
    /// The group that comes before the one counted by `symbol`.
    [[nodiscard]] std::uint8_t symbol_behind(std::uint8_t symbol) const noexcept {
        for (const experts_symbols& each : groups_)
            if (each.count == symbol) return each.behind;
        return no_symbol;
    }
    /// The group that comes next.
    [[nodiscard]] std::uint8_t symbol_after(std::uint8_t symbol) const noexcept {
        for (const experts_symbols& each : groups_)
            if (each.behind == symbol) return each.count;
        return no_symbol;
    }
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE experts_symbols symbols_of(const part_placement& part) noexcept {
        const auto symbol = [&](std::string_view name) noexcept {
            return name.empty() ? no_symbol : static_cast<std::uint8_t>(extents_.symbol(name));
        };
        return {symbol(part.experts), symbol(part.behind)};
    }

    /// Names of extents get their numbers in the order in which the layouts mention them.
    result<void> name_symbols() noexcept {
        for (const layout_description* layout : {&from_, &to_})
            for (const tensor_description& tensor : layout->tensors) {
                const placement placed = tensor.place(extents_);
                for (std::size_t p = 0; p < placed.part_count; ++p) {
                    const part_placement& part = placed.parts[p];
                    const experts_symbols group = symbols_of(part);
                    bool fits =
                        (part.experts.empty() || group.count != no_symbol) && (part.behind.empty() || group.behind != no_symbol);
                    if (group.count != no_symbol) used_ |= 1u << group.count;
                    if (group.behind != no_symbol) used_ |= 1u << group.behind;
                    for (std::size_t a = 0; fits && a < part.part_axes; ++a) {
                        const std::size_t symbol = extents_.symbol(part.extents[a]);
                        fits = symbol != max_symbols;
                        if (fits) used_ |= 1u << symbol;
                    }
                    if (!fits) return failure{.code = errc::unnested_groups, .detail = "the layout has more extents than a plan"};
                    if (layout == &from_ && p == 0 && !groups_.push(group)) return no_memory();
                }
            }
        return {};
    }

    result<void> match_names(sequence<const std::uint32_t> members) noexcept {
        for (const std::uint32_t index : members) {
            const detail::matched_name match = detail::match(from_, set_.spec(index).name.substr(scope_.size() + 1));
            if (match.verdict == detail::name_verdict::leftover) return fault(errc::leftover_tensor, index);
            if (match.verdict == detail::name_verdict::other) {
                const bool other_form = options_.destination_scope.empty() || options_.destination_scope == scope_;
                if (other_form &&
                    detail::match(to_, set_.spec(index).name.substr(scope_.size() + 1)).verdict == detail::name_verdict::tensor)
                    other_form_ = index;
                continue;
            }
            if (!found_.push({match.tensor, match.field, match.expert, index}) || !plan_.tensors_.push(index)) return no_memory();
            if (!from_.tensors[match.tensor].per_expert()) continue;
            std::uint8_t symbol = groups_[match.tensor].count;
            while (symbol_behind(symbol) != no_symbol) symbol = symbol_behind(symbol);
            if (match.expert > highest_[symbol]) highest_[symbol] = match.expert;
            ++numbered_[symbol];
        }
        if (found_.empty()) return failure{.code = errc::no_experts};
        if (other_form_ != absent) return fault(errc::both_layouts, other_form_);
        return {};
    }

    /// Experts are numbered 0 .. E - 1 by their names, and every field of a part is there for each of them.
    result<void> find_experts() noexcept {
        rows_ = 1;
        for (std::uint8_t s = 0; s < extents_.symbol_count; ++s) {
            if (numbered_[s] == 0) continue;
            if (highest_[s] >= numbered_[s]) return missing_number(s);
            deal_out(s, highest_[s] + 1);
            if (highest_[s] + 1 > rows_) rows_ = static_cast<std::size_t>(highest_[s] + 1);
        }
        if (auto given = take_known_extents(); !given) return given;
        const std::size_t kinds = from_.tensors.size() * from_.fields.size();
        if (!table_.resize(kinds * rows_, absent) || !present_.resize(kinds, false)) return no_memory();
        for (found_tensor& each : found_) {
            if (from_.tensors[each.tensor].per_expert()) into_its_group(each);
            std::uint32_t& index = slot(each.tensor, each.field, each.expert);
            if (index != absent) {
                failure error = fault(errc::duplicate_expert, each.index);
                if (from_.tensors[each.tensor].per_expert()) error.expert = first_expert_of(groups_[each.tensor]) + each.expert;
                return error;
            }
            index = each.index;
            present_[each.tensor * from_.fields.size() + each.field] = true;
        }
        for (std::uint8_t s = 0; s < extents_.symbol_count; ++s)
            for (std::uint64_t e = 0; (numbered_symbols_ & (1u << s)) != 0 && e < extents_.values[s]; ++e)
                if (auto whole = check_expert(s, e); !whole) return whole;
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            bool has_value = false;
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
                has_value = has_value || (has(t, f) && from_.fields[f].field->role == field_role::value);
            if (!has_value)
                return failure{.code = errc::missing_part, .tensor = first_name(t, likely_value()), .scope = text{scope_}};
        }
        return {};
    }
    /// The value field that the source has, or else the first one.
    [[nodiscard]] std::uint32_t likely_value() const noexcept {
        for (const found_tensor& each : found_)
            if (from_.fields[each.field].field->role == field_role::value) return each.field;
        return 0;
    }

    /// Gives `count` experts to the group of `root` and those behind it, in equal shares.
    SAFEFUSE_OUT_OF_LINE void deal_out(std::uint8_t root, std::uint64_t count) noexcept {
        std::uint64_t groups = 0;
        for (std::uint8_t s = root; s != no_symbol; s = symbol_after(s)) ++groups;
        const std::uint64_t share = count / groups + (count % groups == 0 ? 0 : 1);
        for (std::uint8_t s = root; s != no_symbol; s = symbol_after(s)) {
            extents_.values[s] = share < count ? share : count;
            count -= extents_.values[s];
            numbered_symbols_ |= 1u << s;
        }
        known_ |= numbered_symbols_;
    }
    /// The name of a tensor may be that of several groups: its number tells which it is, and which of its experts.
    void into_its_group(found_tensor& found) const noexcept {
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            if (from_.tensors[t].name != from_.tensors[found.tensor].name) continue;
            const std::uint64_t first = first_expert_of(groups_[t]);
            if (found.expert < first || found.expert - first >= extents_.values[groups_[t].count]) continue;
            found.tensor = t;
            found.expert -= first;
            return;
        }
    }

    result<void> take_known_extents() noexcept {
        for (const known_extent& each : options_.known_extents)
            for (std::size_t s = 0; s < extents_.symbol_count; ++s) {
                if (extents_.names[s] != each.name || (used_ & (1u << s)) == 0) continue;
                if ((known_ & (1u << s)) != 0 && extents_.values[s] != each.value)
                    return failure{.code = errc::unexpected_extent,
                                   .scope = text{scope_},
                                   .detail = text{each.name},
                                   .expected = each.value,
                                   .actual = extents_.values[s]};
                extents_.values[s] = each.value;
                known_ |= 1u << s;
            }
        return {};
    }

    result<void> check_expert(std::uint8_t symbol, std::uint64_t e) noexcept {
        bool any = false;
        std::uint32_t missing_tensor = absent, missing_field = 0;
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            if (!from_.tensors[t].per_expert() || groups_[t].count != symbol) continue;
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f) {
                if (!has(t, f)) continue;
                if (slot(t, f, e) != absent) {
                    any = true;
                } else if (missing_tensor == absent) {
                    missing_tensor = t;
                    missing_field = f;
                }
            }
        }
        if (missing_tensor == absent) return {};
        const std::uint64_t number = first_expert_of(groups_[missing_tensor]) + e;
        return failure{.code = any ? errc::missing_part : errc::missing_expert,
                       .tensor = source_name(missing_tensor, missing_field, number),
                       .scope = text{scope_},
                       .expert = number};
    }

    /// The highest number is not below the count of tensors, so some number below that count is missing.
    SAFEFUSE_RARE result<void> missing_number(std::uint8_t symbol) noexcept {
        const auto counts = [&](const found_tensor& each) noexcept {
            if (!from_.tensors[each.tensor].per_expert()) return false;
            std::uint8_t root = groups_[each.tensor].count;
            while (symbol_behind(root) != no_symbol) root = symbol_behind(root);
            return root == symbol;
        };
        detail::array<bool> seen;
        if (!seen.resize(found_.size() + 1, false)) return no_memory();
        std::size_t like = found_.size();
        for (std::size_t i = found_.size(); i-- > 0;) {
            if (!counts(found_[i])) continue;
            like = i;
            if (found_[i].expert < found_.size()) seen[static_cast<std::size_t>(found_[i].expert)] = true;
        }
        std::uint64_t first = 0;
        while (seen[static_cast<std::size_t>(first)]) ++first;
        return failure{.code = errc::missing_expert,
                       .tensor = source_name(found_[like].tensor, found_[like].field, first),
                       .scope = text{scope_},
                       .expert = first};
    }

    [[nodiscard]] SAFEFUSE_OUT_OF_LINE placement place(const tensor_description& tensor, const field_form& field,
                                                       const part_extents& extents) const noexcept {
        part_extents of_field = extents;
        of_field.field = &field;
        return tensor.place(of_field);
    }

    /// Chooses the form of each field: the first that the shapes of its tensors fit. The field that holds the parts themselves comes
    /// first, for its shapes tell the extents.
    result<void> choose_forms() noexcept {
        if (!forms_.resize(from_.fields.size(), nullptr)) return no_memory();
        const std::uint32_t value = likely_value();
        if (auto chosen = choose_form(value, true); !chosen) return chosen;
        for (std::uint32_t f = 0; f < from_.fields.size(); ++f) {
            bool any = false;
            for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) any = any || has(t, f);
            if (!any || f == value) continue;
            if (auto chosen = choose_form(f, false); !chosen) return chosen;
        }
        return {};
    }
    /// Where no form fits, the one that most of the tensors fit says why, so that it is the odd tensor that is named.
    result<void> choose_form(std::uint32_t f, bool solve) noexcept {
        const part_extents extents_before = extents_;
        const unsigned known_before = known_;
        const auto try_form = [&](const field_form& form) noexcept {
            extents_ = extents_before;
            known_ = known_before;
            return take_form(f, form, solve);
        };
        const auto may_be = [&](const field_form& form) noexcept { return !is_packed(form) || holds_integers(f); };
        result<void> misfit;
        for (const field_form& form : from_.fields[f].field->forms) {
            if (!may_be(form)) continue;
            auto fits = try_form(form);
            if (fits) return fits;
            if (misfit) misfit = std::move(fits);
        }
        if (misfit)
            return failure{.code = errc::dtype_mismatch, .scope = text{scope_}, .detail = text{from_.fields[f].field->name}};
        std::uint64_t most = 0;
        for (const field_form& form : from_.fields[f].field->forms) {
            if (!may_be(form)) continue;
            auto fits = try_form(form);
            const std::uint64_t count = fitting(f);
            if (count > most) misfit = std::move(fits);
            if (count > most) most = count;
        }
        return misfit;
    }
    SAFEFUSE_OUT_OF_LINE result<void> take_form(std::uint32_t f, const field_form& form, bool solve) noexcept {
        forms_[f] = &form;
        if (solve)
            if (auto solved = solve_extents(f); !solved) return solved;
        return check_field(f);
    }
    /// How many tensors of a field have the shape that its form and the extents ask for.
    [[nodiscard]] std::uint64_t fitting(std::uint32_t f) const noexcept {
        std::uint64_t count = 0;
        for (const found_tensor& each : found_) {
            if (each.field != f) continue;
            const placement placed = place(from_.tensors[each.tensor], *forms_[f], extents_);
            const shape_view shape = set_.spec(each.index).shape;
            std::size_t shown = 0;
            bool same = placed.error == placement_error::none;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                if (placed.axes[a].present) {
                    same = same && shown < shape.size() && shape[shown] == placed.axes[a].extent;
                    ++shown;
                }
            count += same && shown == shape.size() ? 1u : 0u;
        }
        return count;
    }
    /// Whether one entry of a form is several codes; only integers are read so.
    [[nodiscard]] static constexpr bool is_packed(const field_form& form) noexcept {
        bool packed = false;
        for (const std::uint64_t granule : form.granule) packed = packed || granule > 1;
        return packed && form.role == field_role::value;
    }
    [[nodiscard]] bool holds_integers(std::uint32_t f) const noexcept {
        for (const found_tensor& each : found_)
            if (each.field == f && !is_integer(set_.spec(each.index).type)) return false;
        return true;
    }
    [[nodiscard]] static constexpr bool is_integer(dtype type) noexcept {
        return type == dtype::u8 || type == dtype::i8 || type == dtype::u16 || type == dtype::i16 || type == dtype::u32 ||
               type == dtype::i32 || type == dtype::u64 || type == dtype::i64;
    }

    /// Finds E, I, H, ... from the shapes of the tensors of a field that holds the parts themselves.
    result<void> solve_extents(std::uint32_t value) noexcept {
        const field_form& field = *forms_[value];
        for (bool progress = true; progress;) {
            progress = false;
            for (const found_tensor& each : found_) {
                if (each.field != value || each.expert != 0) continue;
                const placement placed = place(from_.tensors[each.tensor], field, unset_extents());
                const shape_view shape = set_.spec(each.index).shape;
                std::size_t shown = 0;
                for (std::size_t a = 0; a < placed.axis_count; ++a) {
                    const stored_axis& axis = placed.axes[a];
                    if (!axis.present) continue;
                    if (shown == shape.size()) return wrong_rank(each.index, placed);
                    const std::uint64_t extent = shape[shown++];
                    const unsigned unknown = axis.symbols & ~known_;
                    if (axis.coefficient == 0 || unknown == 0 || (unknown & (unknown - 1)) != 0) continue;
                    std::uint64_t divisor = axis.coefficient;
                    for (std::size_t s = 0; s < extents_.symbol_count; ++s)
                        if ((axis.symbols & known_ & (1u << s)) != 0 && !detail::multiply(divisor, extents_.values[s], divisor))
                            return fault(errc::size_overflow, each.index);
                    std::uint64_t elements = 0;
                    if (!detail::multiply(extent, axis.granule, elements)) return fault(errc::size_overflow, each.index);
                    if (divisor == 0 && elements == 0) continue;  // tells nothing; another tensor may
                    if (divisor == 0 || elements % divisor != 0) {
                        failure error =
                            fault(errc::shape_mismatch, each.index, "an extent is not a multiple of what the layout puts there");
                        error.expected = divisor;
                        error.actual = elements;
                        return error;
                    }
                    for (std::size_t s = 0; s < extents_.symbol_count; ++s)
                        if ((unknown & (1u << s)) != 0) extents_.values[s] = elements / divisor;
                    known_ |= unknown;
                    progress = true;
                }
                if (shown != shape.size()) return wrong_rank(each.index, placed);
            }
        }
        if ((used_ & ~known_) != 0)
            return failure{.code = errc::shape_mismatch,
                           .scope = text{scope_},
                           .detail = "the shapes do not tell all extents of the layout"};
        return check_shares();
    }
    /// Groups that share their experts' numbers hold equal shares of them.
    result<void> check_shares() noexcept {
        for (std::uint8_t s = 0; s < extents_.symbol_count; ++s) {
            if ((used_ & (1u << s)) == 0 || symbol_behind(s) != no_symbol || symbol_after(s) == no_symbol) continue;
            std::uint64_t count = 0;
            part_extents shared = extents_;
            for (std::uint8_t each = s; each != no_symbol; each = symbol_after(each))
                if (!detail::add(count, extents_.values[each], count)) return failure{.code = errc::size_overflow};
            deal_out(s, count);
            for (std::size_t each = 0; each < extents_.symbol_count; ++each)
                if (extents_.values[each] != shared.values[each])
                    return failure{.code = errc::shape_mismatch,
                                   .detail = "groups of experts that share their numbers are of unequal size",
                                   .expected = extents_.values[each],
                                   .actual = shared.values[each]};
        }
        return {};
    }

    [[nodiscard]] part_extents unset_extents() const noexcept {
        part_extents x = extents_;
        for (std::uint64_t& value : x.values) value = 0;
        return x;
    }

    failure wrong_rank(std::uint32_t index, const placement& placed) const noexcept {
        std::uint64_t axes = 0;
        for (std::size_t a = 0; a < placed.axis_count; ++a) axes += placed.axes[a].present ? 1 : 0;
        failure error = fault(errc::shape_mismatch, index, "another number of axes");
        error.expected = axes;
        error.actual = set_.spec(index).shape.size();
        return error;
    }

    [[nodiscard]] SAFEFUSE_RARE failure misplaced(const placement& placed, const text& tensor) const noexcept {
        failure error{.code = errc::cuts_granule, .tensor = tensor, .scope = text{scope_}};
        switch (placed.error) {
        case placement_error::none:
        case placement_error::cuts_granule: break;
        case placement_error::unequal_extents:
            error.code = errc::shape_mismatch, error.detail = "parts that are put together differ";
            break;
        case placement_error::uneven_groups: error.code = errc::unnested_groups; break;
        case placement_error::too_complex:
            error.code = errc::unnested_groups, error.detail = "the layout needs more strides than a plan has";
            break;
        case placement_error::overflow: error.code = errc::size_overflow; break;
        }
        return error;
    }

    static void append_shape(text& out, dtype type, sequence<const std::uint64_t> shape) noexcept {
        out.append(name(type));
        out.append(" [");
        for (std::size_t a = 0; a < shape.size(); ++a) {
            if (a != 0) out.append(", ");
            out.append_number(shape[a]);
        }
        out.append("]");
    }

    /// Every tensor of a field has the dtype of its siblings and the shape that the extents ask for.
    result<void> check_field(std::uint32_t f) noexcept {
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            if (!has(t, f)) continue;
            const placement placed = place(from_.tensors[t], *forms_[f], extents_);
            if (placed.error != placement_error::none) return misplaced(placed, first_name(t, f));
            std::uint64_t expected[max_stored_axes];
            std::size_t rank = 0;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                if (placed.axes[a].present) expected[rank++] = placed.axes[a].extent;
            const tensor_spec first = set_.spec(slot(t, f, 0));
            for (std::uint64_t e = 0; e < experts_in(t); ++e) {
                const std::uint32_t index = slot(t, f, e);
                const tensor_spec spec = set_.spec(index);
                bool same = spec.shape.size() == rank;
                for (std::size_t a = 0; same && a < rank; ++a) same = spec.shape[a] == expected[a];
                if (same && spec.type == first.type) {
                    const std::uint64_t held = set_.place(index).size_bytes;
                    std::uint64_t size_bytes = 0;
                    std::uint64_t end = 0;
                    if (tensor_size(spec.type, spec.shape, size_bytes) == size_verdict::fits && size_bytes == held &&
                        detail::add(set_.place(index).offset, held, end))
                        continue;
                    failure error = fault(errc::size_mismatch, index);
                    error.expected = size_bytes;
                    error.actual = held;
                    return error;
                }
                text detail{"expected "};
                append_shape(detail, first.type, {expected, rank});
                detail.append(", found ");
                append_shape(detail, spec.type, spec.shape);
                failure error = fault(same ? errc::dtype_mismatch : errc::shape_mismatch, index, detail);
                if (from_.tensors[t].per_expert()) error.expert = first_expert_of(groups_[t]) + e;
                return error;
            }
        }
        return {};
    }

    /// Codes mean nothing without their scales.
    result<void> check_scales() noexcept {
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            bool any_scale = options_.unscaled_codes;
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
                any_scale = any_scale || (has(t, f) && from_.fields[f].field->role == field_role::scale);
            for (std::uint32_t f = 0; !any_scale && f < from_.fields.size(); ++f) {
                if (!has(t, f) || from_.fields[f].field->role != field_role::value) continue;
                const dtype type = set_.spec(slot(t, f, 0)).type;
                if (!is_number(type)) return fault(errc::unscaled_codes, slot(t, f, 0), name(type));
            }
        }
        return {};
    }

    /// Whether the elements mean something without a scale; integers in a weight are quantised codes.
    [[nodiscard]] static constexpr bool is_number(dtype type) noexcept {
        return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 || type == dtype::c64 ||
               type == dtype::boolean;
    }

    /// The ranges of experts and of the sliced extents that move; `local_` is what the destination is laid out for.
    result<void> choose_slice() noexcept {
        local_ = extents_;
        for (std::size_t s = 0; s < extents_.symbol_count; ++s) kept_[s] = {0, extents_.values[s]};
        std::uint64_t most = 0;
        for (const experts_symbols& group : groups_)
            if (group.count != no_symbol && extents_.values[group.count] > most) most = extents_.values[group.count];
        const std::uint64_t end = options_.end_expert == no_number ? most : options_.end_expert;
        if (options_.first_expert > end || end > most)
            return failure{.code = errc::out_of_range,
                           .detail = "E",
                           .expected = most,
                           .actual = options_.first_expert > end ? options_.first_expert : end};
        for (const experts_symbols& group : groups_) {
            if (group.count == no_symbol) continue;
            const std::uint64_t count = extents_.values[group.count];
            keep(group.count, options_.first_expert < count ? options_.first_expert : count, end < count ? end : count);
        }
        for (std::string_view names = options_.sliced_extent; !names.empty();) {
            std::size_t size = 0;
            while (size < names.size() && names[size] != ' ') ++size;
            if (size != 0)
                if (auto done = slice(names.substr(0, size)); !done) return done;
            names.remove_prefix(size < names.size() ? size + 1 : size);
        }
        return {};
    }
    void keep(std::size_t symbol, std::uint64_t first, std::uint64_t end) noexcept {
        kept_[symbol] = {first, end - first};
        local_.values[symbol] = end - first;
    }
    result<void> slice(std::string_view name) noexcept {
        std::size_t symbol = 0;
        while (symbol < extents_.symbol_count && (extents_.names[symbol] != name || symbol == 0)) ++symbol;
        if (symbol == extents_.symbol_count)
            return failure{.code = errc::out_of_range, .detail = "the layout has no extent of that name"};
        const std::uint64_t extent = extents_.values[symbol];
        std::uint64_t first = options_.slice_first, end = options_.slice_end == no_number ? extent : options_.slice_end;
        if (options_.slice_ranks > 1) {
            const std::uint64_t each = extent / options_.slice_ranks;
            if (extent % options_.slice_ranks != 0 || options_.slice_rank >= options_.slice_ranks)
                return failure{.code = errc::out_of_range,
                               .detail = "the extent is not a multiple of the number of ranks, or there is no such rank",
                               .expected = options_.slice_ranks,
                               .actual = extent};
            first = each * options_.slice_rank;
            end = first + each;
        }
        if (first > end || end > extent)
            return failure{
                .code = errc::out_of_range, .detail = text{name}, .expected = extent, .actual = first > end ? first : end};
        keep(symbol, first, end);
        return {};
    }
    /// The kept range of a part's axis, in entries of a field.
    [[nodiscard]] placement_error kept_entries(const part_placement& part, std::size_t axis, const field_form& field,
                                               detail::kept_range& out) const noexcept {
        part_extents names = extents_;
        const std::size_t symbol = names.symbol(part.extents[axis]);
        const std::uint64_t granule = field.granule[axis];
        out = {0, 1};
        if (granule == 0 || granule == whole_axis) return placement_error::none;
        const auto [begin, count] = kept_[symbol];
        const std::uint64_t extent = extents_.values[symbol];
        if (begin % granule != 0 || (count % granule != 0 && begin + count != extent)) return placement_error::cuts_granule;
        out = {begin / granule, count / granule + (count % granule == 0 ? 0 : 1)};
        return placement_error::none;
    }
    /// How many experts move, over all groups that share their numbers.
    [[nodiscard]] std::uint64_t kept_experts() const noexcept {
        std::uint64_t most = 0;
        for (const experts_symbols& group : groups_) {
            if (group.count == no_symbol) continue;
            std::uint64_t count = local_.values[group.count];
            for (std::uint8_t s = group.behind; s != no_symbol; s = symbol_behind(s)) count += local_.values[s];
            if (count > most) most = count;
        }
        return most;
    }

    result<void> make_outputs() noexcept {
        const std::string_view scope = options_.destination_scope.empty() ? scope_ : options_.destination_scope;
        plan_.expert_count_ = kept_experts();
        if (!plan_.arena_.append(scope_.data(), scope_.size())) return no_memory();
        plan_.scope_size_ = scope_.size();
        for (const tensor_description& tensor : to_.tensors) {
            const placement names = tensor.place(extents_);
            for (const spelled_field& spelled : to_.fields)
                if (auto done = make_field(scope, tensor, names, spelled); !done) return done;
        }
        for (std::uint32_t f = 0; f < from_.fields.size(); ++f) {
            bool known = false;
            for (const spelled_field& spelled : to_.fields) known = known || spelled.field->name == from_.fields[f].field->name;
            for (std::uint32_t t = 0; !known && t < from_.tensors.size(); ++t)
                if (has(t, f)) return fault(errc::leftover_tensor, slot(t, f, 0), "the other layout has no name for that field");
        }
        // names and shapes were written to arrays that may have moved; now they stay
        const char* characters = plan_.arena_.data() + plan_.scope_size_;
        const std::uint64_t* extents = plan_.extents_.data();
        for (plan_output& each : plan_.outputs_) {
            each.name = detail::characters_at(characters, each.name.size());
            each.local_name = each.name.substr(scope.size() + 1);
            each.shape = {extents, each.shape.size()};
            characters += each.name.size();
            extents += each.shape.size();
        }
        return {};
    }

    /// The outputs of one field of one tensor of the destination's layout, if the source has that field.
    result<void> make_field(std::string_view scope, const tensor_description& tensor, const placement& names,
                            const spelled_field& spelled) noexcept {
        std::uint32_t from_field = absent;
        for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
            if (from_.fields[f].field->name == spelled.field->name) from_field = f;
        if (from_field == absent) return {};
        part_origin origins[max_placed_parts];
        bool any = false;
        for (std::size_t p = 0; p < names.part_count; ++p) {
            origins[p] = find_part(names.parts[p].part);
            any = any || has(origins[p].tensor, from_field);
        }
        if (!any) return {};
        const field_form& field = *forms_[from_field];
        bool known = false;
        for (const field_form& form : spelled.field->forms) known = known || form == field;
        if (!known)
            return failure{
                .code = errc::cuts_granule, .scope = text{scope_}, .detail = "the two layouts give a field different granules"};
        const tensor_spec first = set_.spec(slot_of_any(origins, names.part_count, from_field));
        for (std::size_t p = 0; p < names.part_count; ++p) {
            if (!has(origins[p].tensor, from_field))
                return failure{
                    .code = errc::missing_part, .tensor = first_name(origins[p].tensor, from_field), .scope = text{scope_}};
            const std::uint32_t index = slot(origins[p].tensor, from_field, 0);
            if (set_.spec(index).type == first.type) continue;
            text detail{"parts of one tensor: "};
            detail.append(name(first.type));
            detail.append(" and ");
            detail.append(name(set_.spec(index).type));
            return fault(errc::dtype_mismatch, index, detail);
        }

        const placement placed = place(tensor, field, local_);
        text whole_name;
        whole_name.append(scope);
        whole_name.append(".");
        detail::spell(whole_name, tensor.name, 0, spelled.suffix);
        if (placed.error != placement_error::none) return misplaced(placed, whole_name);
        std::uint64_t shape[max_stored_axes];
        std::size_t rank = 0;
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            if (placed.axes[a].present) shape[rank++] = placed.axes[a].extent;
        std::uint64_t size_bytes = 0;
        switch (tensor_size(first.type, {shape, rank}, size_bytes)) {
        case size_verdict::overflows: return failure{.code = errc::size_overflow, .tensor = std::move(whole_name)};
        case size_verdict::partial_byte: return failure{.code = errc::partial_byte, .tensor = std::move(whole_name)};
        case size_verdict::fits: break;
        }

        const auto first_output = static_cast<std::uint32_t>(plan_.outputs_.size());
        const std::size_t first_block = plan_.blocks_.size(), first_equal = plan_.equal_blocks_.size();
        const experts_symbols group = symbols_of(placed.parts[0]);
        const detail::kept_range kept = group.count == no_symbol ? detail::kept_range{0, 1} : kept_[group.count];
        const std::uint64_t first_number = first_expert_of(group) + kept.begin;
        const std::uint64_t count = tensor.per_expert() ? kept.count : 1;
        const std::uint32_t collects = collected(placed, field);
        // experts that a shape claims cost a file next to nothing, and each takes memory here; those with names of their own are
        // bounded by the header that holds the names, but for experts without elements that another tensor's shape claims
        const bool has_names = from_.tensors[origins[0].tensor].per_expert() && size_bytes != 0;
        const std::uint64_t most = has_names ? absent - first_output : most_claimed_experts;
        if (count > most)
            return failure{.code = errc::shape_mismatch,
                           .tensor = std::move(whole_name),
                           .detail = "too many experts for a tensor each",
                           .expected = most,
                           .actual = count};
        for (std::uint64_t i = 0; i < count; ++i) {
            text full;
            if (!full.append(scope) || !full.append(".") || !detail::spell(full, tensor.name, first_number + i, spelled.suffix))
                return no_memory();
            // the pointers are set when all outputs are there; until then only the sizes count
            plan_output output{{{full.view().data(), full.size()}, first.type, {shape, rank}}, {}, size_bytes, collects};
            if (!plan_.arena_.append(full.view().data(), full.size()) || !plan_.extents_.append(shape, rank) ||
                !plan_.outputs_.push(output))
                return no_memory();
        }
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (auto done = make_blocks(tensor, placed, placed.parts[p], origins[p], from_field, first.type, first_output,
                                        lies_on_another(placed, p) ? plan_.equal_blocks_ : plan_.blocks_);
                !done) {
                if (done.error().tensor.empty()) done.error().tensor = std::move(whole_name);
                return done;
            }
        // a term of a user's own may be wrong: it must not write or compare elsewhere, nor leave bytes unmade
        std::uint64_t made_bytes = 0, wanted_bytes = 0;
        bool inside = detail::multiply(count, size_bytes, wanted_bytes);
        for (std::size_t i = first_block; i < plan_.blocks_.size(); ++i) {
            const copy_block& block = plan_.blocks_[i];
            inside = inside && detail::add(made_bytes, block.size_bytes(), made_bytes) && lies_in_output(block, size_bytes);
        }
        for (std::size_t i = first_equal; i < plan_.equal_blocks_.size(); ++i)
            inside = inside && lies_in_output(plan_.equal_blocks_[i], size_bytes);
        if (!inside || made_bytes != wanted_bytes)
            return failure{.code = errc::shape_mismatch,
                           .tensor = std::move(whole_name),
                           .detail = "a term of the layout does not fill its tensor"};
        return {};
    }

    [[nodiscard]] static bool lies_in_output(const copy_block& block, std::uint64_t size_bytes) noexcept {
        return detail::lies_inside(block.destination_offset, block.destination_extent_bytes(), size_bytes);
    }

    /// Whether a part is stored where one before it is: they share the field.
    [[nodiscard]] static bool lies_on_another(const placement& placed, std::size_t part) noexcept {
        bool any_shared = false;
        for (std::size_t a = 0; a < placed.axis_count; ++a) any_shared = any_shared || placed.axes[a].is_shared;
        for (std::size_t other = 0; any_shared && other < part; ++other) {
            bool same = true;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                same = same && placed.parts[other].first[a] == placed.parts[part].first[a];
            if (same) return true;
        }
        return false;
    }
    /// How many entries an expert has where each of its parts has one and they lie side by side; else 0.
    [[nodiscard]] static std::uint32_t collected(const placement& placed, const field_form& form) noexcept {
        bool one_each = placed.part_count > 1 && !form.is_shared && form.entries == 0;
        for (const std::uint64_t granule : form.granule) one_each = one_each && (granule == 0 || granule == whole_axis);
        for (std::size_t p = 0; one_each && p < placed.part_count; ++p)
            for (std::size_t i = 0; i < placed.parts[p].piece_count; ++i) {
                const index_piece& piece = placed.parts[p].pieces[i];
                one_each = one_each && (piece.part_axis != 0 || (piece.axis == 0 && piece.extent == placed.axes[0].extent));
            }
        return one_each ? placed.part_count : 0;
    }

    [[nodiscard]] part_origin find_part(std::string_view part) const noexcept {
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            const placement placed = from_.tensors[t].place(extents_);
            for (std::uint32_t p = 0; p < placed.part_count; ++p)
                if (placed.parts[p].part == part) return {t, p};
        }
        return {0, 0};  // cannot be: can_become was checked when the plan was compiled
    }
    [[nodiscard]] std::uint32_t slot_of_any(const part_origin* origins, std::size_t count, std::uint32_t field) noexcept {
        for (std::size_t p = 0; p < count; ++p)
            if (has(origins[p].tensor, field)) return slot(origins[p].tensor, field, 0);
        return 0;
    }

    /// The copies of one part into the outputs that begin with `first_output`.
    result<void> make_blocks(const tensor_description& to_tensor, const placement& to, const part_placement& to_part,
                             part_origin origin, std::uint32_t from_field, dtype type, std::uint32_t first_output,
                             detail::array<copy_block>& blocks) noexcept {
        const tensor_description& from_tensor = from_.tensors[origin.tensor];
        const field_form& field = *forms_[from_field];
        const placement from = place(from_tensor, field, extents_);
        const part_placement& from_part = from.parts[origin.part];
        const std::uint8_t group = symbols_of(to_part).count;
        const detail::kept_range experts = group == no_symbol ? detail::kept_range{0, 1} : kept_[group];
        const bool expert_loop = group != no_symbol && !from_tensor.per_expert() && !to_tensor.per_expert();
        const auto refused = [&](placement_error error) noexcept {
            placement reason;
            reason.error = error;
            return misplaced(reason, {});
        };

        detail::loop_nest nest;
        for (std::size_t axis = expert_loop ? 0 : 1; axis <= to_part.part_axes; ++axis) {
            detail::kept_range kept = experts;
            if (axis > 0)
                if (const auto error = kept_entries(to_part, axis - 1, field, kept); error != placement_error::none)
                    return refused(error);
            const auto error = detail::add_axis(nest, {from, from_part, axis}, {to, to_part, axis}, kept);
            if (error != placement_error::none) return refused(error);
            if (kept.count == 0) return {};
        }
        if (field.entries > 1)
            if (const auto error =
                    detail::add_axis(nest, {from, from_part, own_axis}, {to, to_part, own_axis}, {0, field.entries});
                error != placement_error::none)
                return refused(error);
        detail::normalise(nest);
        nest.from_offset += detail::first_entry(from, from_part);
        nest.to_offset += detail::first_entry(to, to_part);

        // entries become bits, and a run of neighbours one copy
        const std::uint64_t entry_bits = bits(type);
        copy_block shape{};
        std::uint64_t run_bits = entry_bits;
        std::size_t loops = nest.count;
        if (loops > 0 && nest.loops[loops - 1].from_stride == 1 && nest.loops[loops - 1].to_stride == 1)
            run_bits *= nest.loops[--loops].extent;
        bool whole_bytes = run_bits % 8 == 0;
        for (std::size_t i = 0; i < loops; ++i) {
            const std::uint64_t from_bits = nest.loops[i].from_stride * entry_bits,
                                to_bits = nest.loops[i].to_stride * entry_bits;
            whole_bytes = whole_bytes && from_bits % 8 == 0 && to_bits % 8 == 0;
            shape.loops[shape.loop_count++] = {nest.loops[i].extent, from_bits / 8, to_bits / 8};
        }
        shape.run_bytes = run_bits / 8;

        const std::uint64_t turns = expert_loop ? 1 : experts.count;
        for (std::uint64_t i = 0; i < turns; ++i) {
            const std::uint64_t e = experts.begin + i;
            std::uint64_t from_entry = nest.from_offset, to_entry = nest.to_offset;
            if (!expert_loop && !from_tensor.per_expert()) from_entry += detail::entry_of(from, from_part, 0, e);
            if (!expert_loop && !to_tensor.per_expert()) to_entry += detail::entry_of(to, to_part, 0, i);
            if (!whole_bytes || from_entry * entry_bits % 8 != 0 || to_entry * entry_bits % 8 != 0)
                return refused(placement_error::cuts_granule);
            const tensor_place place = set_.place(slot(origin.tensor, from_field, from_tensor.per_expert() ? e : 0));
            copy_block block = shape;
            block.source = place.source;
            block.output = first_output + static_cast<std::uint32_t>(to_tensor.per_expert() ? i : 0);
            block.source_offset = place.offset + from_entry * entry_bits / 8;
            block.destination_offset = to_entry * entry_bits / 8;
            // a term of a user's own may be wrong: what it reads is of its own tensor
            if (!detail::lies_inside(from_entry * entry_bits / 8, block.source_extent_bytes(), place.size_bytes))
                return failure{.code = errc::shape_mismatch, .detail = "a term of the layout reaches beyond its tensor"};
            if (!blocks.push(block)) return no_memory();
        }
        return {};
    }

    [[nodiscard]] static bool same_loops(const copy_block& a, const copy_block& b) noexcept {
        bool same = a.loop_count == b.loop_count;
        for (std::uint32_t i = 0; same && i < a.loop_count; ++i) same = a.loops[i] == b.loops[i];
        return same;
    }
    /// Takes loops into the run whose steps touch on both sides.
    static void close_gaps(copy_block& block) noexcept {
        for (; block.loop_count > 0; block.loops[--block.loop_count] = {}) {
            const copy_loop& inner = block.loops[block.loop_count - 1];
            if (inner.source_stride != block.run_bytes || inner.destination_stride != block.run_bytes) return;
            block.run_bytes *= inner.extent;
        }
    }

    /// Copies in the order of their sources, neighbours made one.
    result<void> order_blocks() noexcept {
        for (detail::array<copy_block>* blocks : {&plan_.blocks_, &plan_.equal_blocks_})
            if (auto done = order(*blocks); !done) return done;
        return detail::sort(plan_.tensors_.span(), [](std::uint32_t a, std::uint32_t b) noexcept { return a < b; })
                   ? result<void>{}
                   : no_memory();
    }
    static result<void> order(detail::array<copy_block>& blocks) noexcept {
        const auto before = [](const auto& a, const auto& b) noexcept {
            return a.source != b.source ? a.source < b.source : a.source_offset < b.source_offset;
        };
        // what is sorted is small: blocks are ten times as large
        struct place {
            std::uint32_t source;
            std::uint32_t block;
            std::uint64_t source_offset;
        };
        detail::array<place> places;
        detail::array<copy_block> sorted;
        if (!places.reserve(blocks.size()) || !sorted.reserve(blocks.size())) return no_memory();
        for (const copy_block& each : blocks)
            if (!places.push({each.source, static_cast<std::uint32_t>(places.size()), each.source_offset})) return no_memory();
        if (!detail::sort(places.span(), before)) return no_memory();
        for (const place& each : places)
            if (!sorted.push(blocks[each.block])) return no_memory();
        blocks = std::move(sorted);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const copy_block& next = blocks[i];
            if (kept > 0) {
                copy_block& last = blocks[kept - 1];
                if (last.output == next.output && last.source == next.source &&
                    last.source_offset + last.run_bytes == next.source_offset &&
                    last.destination_offset + last.run_bytes == next.destination_offset && same_loops(last, next)) {
                    last.run_bytes += next.run_bytes;
                    close_gaps(last);
                    continue;
                }
            }
            blocks[kept++] = next;
        }
        static_cast<void>(blocks.resize_unset(kept));
        return {};
    }

    tensor_set_ref set_;
    std::string_view scope_;
    const layout_description& from_;
    const layout_description& to_;
    const plan_options& options_;
    copy_plan plan_;

    detail::array<found_tensor> found_;
    std::uint32_t other_form_ = absent;          // a tensor of the destination's layout
    detail::array<experts_symbols> groups_;      // [tensor of the source's layout]
    std::uint64_t numbered_[max_symbols + 1]{};  // how many names hold an expert's number, by the first group that shares it,
    std::uint64_t highest_[max_symbols + 1]{};   // and the highest
    unsigned numbered_symbols_ = 0;              // sets of symbols, one bit each: counted by names,
    unsigned used_ = 0;                          // mentioned by a part,
    unsigned known_ = 0;                         // and known
    detail::array<const field_form*> forms_;     // [field] chosen, null until then
    std::size_t rows_ = 1;
    detail::array<std::uint32_t> table_;  // [tensor][field][expert] -> number in the set
    detail::array<bool> present_;         // [tensor][field]
    part_extents extents_;
    part_extents local_;
    detail::kept_range kept_[max_symbols]{};
};

namespace detail {

/// Numbers of the tensors whose names begin with `scope` and a dot.
inline result<array<std::uint32_t>> tensors_under(tensor_set_ref set, std::string_view scope) noexcept {
    array<std::uint32_t> out;
    source_check check{set};
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
        const std::string_view name = set.spec(i).name;
        if (name.size() > scope.size() && name[scope.size()] == '.' && name.starts_with(scope))
            if (!out.push(static_cast<std::uint32_t>(i))) return failure{.code = errc::out_of_memory};
    }
    return out;
}

}  // namespace detail

/// Plans the experts of one scope from one layout to another. Nothing is read but names, dtypes and shapes.
///   scope   the dotted prefix of the experts module, without a dot at its end
///   fails   no_experts, missing_expert, missing_part, duplicate_expert, leftover_tensor, both_layouts (tensors of the destination's
///           layout lie in the scope, too), shape_mismatch, dtype_mismatch, size_mismatch (of the set's own making), unscaled_codes,
///           cuts_granule, unnested_groups, size_overflow, partial_byte, out_of_range (options), file_changed, out_of_memory
template <layout_type From, layout_type To, tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const plan_options& options = {}) noexcept {
    static_assert(can_become<From, To>,
                  "safefuse: the destination's layout places a part that the source's layout lacks or gives other extents");
    static_assert(can_become<To, From>, "safefuse: the destination's layout leaves out a part that the source's layout places");
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    return plan_maker::make(set, members->span(), scope, From::description, To::description, options);
}
/// A plan refers to its set, which must outlive it.
template <layout_type From, layout_type To, detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const plan_options& = {}) = delete;
/// What a call with other types gets: a sentence that says what is missing, in place of a list of candidates.
template <class From, class To, class Set>
    requires(!layout_type<From> || !layout_type<To> || !tensor_set<Set>)
result<copy_plan> plan(const Set&, std::string_view, const plan_options& = {}) noexcept {
    static_assert(layout_type<From>, "safefuse: plan<From, To> wants two layouts, and the first type is none");
    static_assert(layout_type<To>, "safefuse: plan<From, To> wants two layouts, and the second type is none");
    static_assert(tensor_set<Set>, "safefuse: what plan should take tensors from is no tensor_set");
    return failure{};
}

/// The same for layouts that are chosen at run time.
///   fails   missing_part as well, where the destination's layout places a part that the source's layout lacks; leftover_tensor
///           as well, where it leaves one out
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const layout_description& from, const layout_description& to,
                                     const plan_options& options = {}) noexcept {
    if (!can_become_layout(from, to))
        return failure{.code = errc::missing_part,
                       .scope = text{scope},
                       .detail = "the source's layout lacks a part that the destination's places"};
    if (!can_become_layout(to, from))
        return failure{.code = errc::leftover_tensor,
                       .scope = text{scope},
                       .detail = "the destination's layout leaves out a part that the source's places"};
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    return plan_maker::make(set, members->span(), scope, from, to, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const layout_description&, const layout_description&,
                       const plan_options& = {}) = delete;

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
