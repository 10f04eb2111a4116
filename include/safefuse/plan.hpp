// safefuse: from two layouts and the tensors of one scope to a copy_plan: names, shapes and dtypes are checked here, before any
// byte is read.
#ifndef SAFEFUSE_PLAN_HPP
#define SAFEFUSE_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <safefuse/copy_plan.hpp>
#include <safefuse/detail/array.hpp>
#include <safefuse/detail/compose.hpp>
#include <safefuse/detail/layout_names.hpp>
#include <safefuse/family.hpp>
#include <safefuse/layout.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/tensor_set.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

struct plan_options {
    /// The scope of the outputs; empty: that of the source.
    std::string_view destination_scope{};
    /// Only these experts, numbered as in the source; end is exclusive, no_number: all of them.
    std::uint64_t first_expert = 0;
    std::uint64_t end_expert = no_number;
    /// Only the entries [first, end) of the extent of that name ("I", say): one rank of a tensor-parallel group. Empty: all.
    std::string_view sliced_extent{};
    std::uint64_t slice_first = 0;
    std::uint64_t slice_end = no_number;
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
        auto done = maker.match_names(members)
                        .and_then([&] { return maker.find_experts(); })
                        .and_then([&] { return maker.solve_extents(); })
                        .and_then([&] { return maker.check_tensors(); })
                        .and_then([&] { return maker.choose_slice(); })
                        .and_then([&] { return maker.make_outputs(); })
                        .and_then([&] { return maker.order_blocks(); });
        if (!done) {
            if (done.error().scope.empty()) done.error().scope = text{scope};
            return std::move(done).error();
        }
        return std::move(maker.plan_);
    }

private:
    static constexpr std::uint32_t absent = ~std::uint32_t{0};
    static constexpr std::uint64_t most_empty_experts = 65'536;

    /// A tensor of the set that is field `field` of tensor `tensor` of the source's layout.
    struct found_tensor {
        std::uint32_t tensor;
        std::uint32_t field;
        std::uint64_t expert;
        std::uint32_t index;
    };
    /// Where a part comes from.
    struct part_origin {
        std::uint32_t tensor = absent;
        std::uint32_t part = 0;
    };

    plan_maker(tensor_set_ref set, std::string_view scope, const layout_description& from, const layout_description& to,
               const plan_options& options) noexcept
        : set_{set}, scope_{scope}, from_{from}, to_{to}, options_{options}, plan_{set} {}

    [[nodiscard]] failure fault(errc code, std::uint32_t tensor, std::string_view detail = {}) const noexcept {
        return {.code = code,
                .file = text{set_.source_name(set_.place(tensor).source)},
                .tensor = text{set_.spec(tensor).name},
                .scope = text{scope_},
                .detail = text{detail}};
    }
    static failure no_memory() noexcept { return {.code = errc::out_of_memory}; }

    /// The full name of a tensor of the source's layout, whether it is there or not.
    [[nodiscard]] text source_name(std::uint32_t tensor, std::uint32_t field, std::uint64_t expert) const noexcept {
        text out{scope_};
        out.append(".");
        detail::spell(out, from_.tensors[tensor].name, expert, from_.fields[field].suffix);
        return out;
    }

    /// Slot in `table_` of a field of a tensor for an expert; tensors that hold all experts use expert 0.
    [[nodiscard]] std::uint32_t& slot(std::uint32_t tensor, std::uint32_t field, std::uint64_t expert) noexcept {
        return table_[(tensor * from_.fields.size() + field) * rows_ + static_cast<std::size_t>(expert)];
    }
    [[nodiscard]] bool has(std::uint32_t tensor, std::uint32_t field) const noexcept {
        return present_[tensor * from_.fields.size() + field];
    }
    [[nodiscard]] std::uint64_t experts_in(std::uint32_t tensor) const noexcept {
        return from_.tensors[tensor].per_expert() ? extents_.values[0] : 1;
    }

    result<void> match_names(sequence<const std::uint32_t> members) noexcept {
        for (const std::uint32_t index : members) {
            const detail::matched_name match = detail::match(from_, set_.spec(index).name.substr(scope_.size() + 1));
            if (match.verdict == detail::name_verdict::leftover) return fault(errc::leftover_tensor, index);
            if (match.verdict == detail::name_verdict::other) {
                const bool other_form = options_.destination_scope.empty() || options_.destination_scope == scope_;
                if (other_form && detail::match(to_, set_.spec(index).name.substr(scope_.size() + 1)).verdict == detail::name_verdict::tensor)
                    other_form_ = index;
                continue;
            }
            if (!found_.push({match.tensor, match.field, match.expert, index}) || !plan_.tensors_.push(index)) return no_memory();
            if (!from_.tensors[match.tensor].per_expert()) continue;
            if (match.expert > highest_) highest_ = match.expert;
            numbered_ = true;
        }
        if (found_.empty()) return failure{.code = errc::no_experts};
        if (other_form_ != absent) return fault(errc::both_layouts, other_form_);
        return {};
    }

    /// Experts are numbered 0 .. E - 1 by their names, and every field of a part is there for each of them.
    result<void> find_experts() noexcept {
        if (numbered_) {
            if (highest_ >= found_.size()) return missing_number();
            extents_.values[0] = highest_ + 1;
        }
        rows_ = static_cast<std::size_t>(extents_.values[0] == 0 ? 1 : extents_.values[0]);
        const std::size_t kinds = from_.tensors.size() * from_.fields.size();
        if (!table_.resize(kinds * rows_, absent) || !present_.resize(kinds, false)) return no_memory();
        for (const found_tensor& each : found_) {
            std::uint32_t& index = slot(each.tensor, each.field, each.expert);
            if (index != absent) {
                failure error = fault(errc::duplicate_expert, each.index);
                if (from_.tensors[each.tensor].per_expert()) error.expert = each.expert;
                return error;
            }
            index = each.index;
            present_[each.tensor * from_.fields.size() + each.field] = true;
        }
        for (std::uint64_t e = 0; numbered_ && e <= highest_; ++e)
            if (auto whole = check_expert(e); !whole) return whole;
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            bool has_value = false;
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
                has_value = has_value || (has(t, f) && from_.fields[f].field->role == field_role::value);
            if (!has_value) return failure{.code = errc::missing_part, .tensor = source_name(t, 0, 0), .scope = text{scope_}};
        }
        return {};
    }

    result<void> check_expert(std::uint64_t e) noexcept {
        bool any = false;
        std::uint32_t missing_tensor = absent, missing_field = 0;
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            if (!from_.tensors[t].per_expert()) continue;
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
        return failure{.code = any ? errc::missing_part : errc::missing_expert,
                       .tensor = source_name(missing_tensor, missing_field, e),
                       .scope = text{scope_},
                       .expert = e};
    }

    /// The highest number is not below the count of tensors, so some number below that count is missing.
    result<void> missing_number() noexcept {
        detail::array<bool> seen;
        if (!seen.resize(found_.size() + 1, false)) return no_memory();
        for (const found_tensor& each : found_)
            if (from_.tensors[each.tensor].per_expert() && each.expert < found_.size()) seen[static_cast<std::size_t>(each.expert)] = true;
        std::uint64_t first = 0;
        while (seen[static_cast<std::size_t>(first)]) ++first;
        std::size_t like = 0;
        while (!from_.tensors[found_[like].tensor].per_expert()) ++like;
        return failure{.code = errc::missing_expert,
                       .tensor = source_name(found_[like].tensor, found_[like].field, first),
                       .scope = text{scope_},
                       .expert = first};
    }

    [[nodiscard]] placement place(const tensor_description& tensor, const field_description& field, part_extents extents) const noexcept {
        extents.field = &field;
        return tensor.place(extents);
    }

    /// Finds E, I, H, ... from the shapes of the tensors that hold the parts themselves.
    result<void> solve_extents() noexcept {
        unsigned known = numbered_ ? 1u : 0u;
        // names of extents get their numbers in the order in which the layouts mention them
        for (const layout_description* layout : {&from_, &to_})
            for (const tensor_description& tensor : layout->tensors) name_extents(tensor);
        for (bool progress = true; progress;) {
            progress = false;
            for (const found_tensor& each : found_) {
                const field_description& field = *from_.fields[each.field].field;
                if (field.role != field_role::value || each.expert != 0) continue;
                const placement placed = place(from_.tensors[each.tensor], field, unset_extents());
                const shape_view shape = set_.spec(each.index).shape;
                std::size_t shown = 0;
                for (std::size_t a = 0; a < placed.axis_count; ++a) {
                    const stored_axis& axis = placed.axes[a];
                    if (!axis.present) continue;
                    if (shown == shape.size()) return wrong_rank(each.index, placed);
                    const std::uint64_t extent = shape[shown++];
                    const unsigned unknown = axis.symbols & ~known;
                    if (axis.coefficient == 0 || unknown == 0 || (unknown & (unknown - 1)) != 0) continue;
                    std::uint64_t divisor = axis.coefficient;
                    for (std::size_t s = 0; s < extents_.symbol_count; ++s)
                        if ((axis.symbols & known & (1u << s)) != 0 && !detail::multiply(divisor, extents_.values[s], divisor))
                            return fault(errc::size_overflow, each.index);
                    std::uint64_t elements = 0;
                    if (!detail::multiply(extent, axis.granule, elements)) return fault(errc::size_overflow, each.index);
                    if (divisor == 0 && elements == 0) continue;  // tells nothing; another tensor may
                    if (divisor == 0 || elements % divisor != 0) {
                        failure error = fault(errc::shape_mismatch, each.index, "an extent is not a multiple of what the layout puts there");
                        error.expected = divisor;
                        error.actual = elements;
                        return error;
                    }
                    for (std::size_t s = 0; s < extents_.symbol_count; ++s)
                        if ((unknown & (1u << s)) != 0) extents_.values[s] = elements / divisor;
                    known |= unknown;
                    progress = true;
                }
                if (shown != shape.size()) return wrong_rank(each.index, placed);
            }
        }
        if (known + 1 != 1u << extents_.symbol_count)
            return failure{.code = errc::shape_mismatch, .scope = text{scope_}, .detail = "the shapes do not tell all extents of the layout"};
        return {};
    }

    void name_extents(const tensor_description& tensor) noexcept {
        const placement placed = tensor.place(extents_);
        for (std::size_t p = 0; p < placed.part_count; ++p)
            for (std::size_t a = 0; a < placed.parts[p].part_axes; ++a) static_cast<void>(extents_.symbol(placed.parts[p].extents[a]));
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

    [[nodiscard]] failure misplaced(const placement& placed, const text& tensor) const noexcept {
        failure error{.code = errc::cuts_granule, .tensor = tensor, .scope = text{scope_}};
        switch (placed.error) {
        case placement_error::none:
        case placement_error::cuts_granule: break;
        case placement_error::unequal_extents: error.code = errc::shape_mismatch, error.detail = "parts that are put together differ"; break;
        case placement_error::uneven_groups: error.code = errc::unnested_groups; break;
        case placement_error::too_complex: error.code = errc::unnested_groups, error.detail = "the layout needs more strides than a plan has"; break;
        case placement_error::overflow: error.code = errc::size_overflow; break;
        }
        return error;
    }

    static void append_shape(text& out, dtype type, std::span<const std::uint64_t> shape) noexcept {
        out.append(name(type));
        out.append(" [");
        for (std::size_t a = 0; a < shape.size(); ++a) {
            if (a != 0) out.append(", ");
            out.append_number(shape[a]);
        }
        out.append("]");
    }

    /// Every tensor has the dtype of its siblings and the shape that the extents ask for.
    result<void> check_tensors() noexcept {
        for (std::uint32_t t = 0; t < from_.tensors.size(); ++t) {
            bool any_scale = false;
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
                any_scale = any_scale || (has(t, f) && from_.fields[f].field->role == field_role::scale);
            for (std::uint32_t f = 0; f < from_.fields.size(); ++f) {
                if (!has(t, f)) continue;
                const field_description& field = *from_.fields[f].field;
                const placement placed = place(from_.tensors[t], field, extents_);
                if (placed.error != placement_error::none) return misplaced(placed, source_name(t, f, 0));
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
                        if (tensor_size(spec.type, spec.shape, size_bytes) == size_verdict::fits && size_bytes == held) continue;
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
                    if (from_.tensors[t].per_expert()) error.expert = e;
                    return error;
                }
                if (field.role == field_role::value && !is_number(first.type) && !any_scale && !options_.unscaled_codes)
                    return fault(errc::unscaled_codes, slot(t, f, 0), name(first.type));
            }
        }
        return {};
    }

    /// Whether the elements mean something without a scale; integers in a weight are quantised codes.
    [[nodiscard]] static constexpr bool is_number(dtype type) noexcept {
        return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 || type == dtype::c64 ||
               type == dtype::boolean;
    }

    /// The ranges of E and of the sliced extent that move; `local_` is what the destination is laid out for.
    result<void> choose_slice() noexcept {
        local_ = extents_;
        for (std::size_t s = 0; s < extents_.symbol_count; ++s) kept_[s] = {0, extents_.values[s]};
        if (auto done = keep(0, options_.first_expert, options_.end_expert); !done) return done;
        if (options_.sliced_extent.empty()) return {};
        for (std::size_t s = 1; s < extents_.symbol_count; ++s)
            if (extents_.names[s] == options_.sliced_extent) return keep(s, options_.slice_first, options_.slice_end);
        return failure{.code = errc::out_of_range, .detail = "the layout has no extent of that name"};
    }
    result<void> keep(std::size_t symbol, std::uint64_t first, std::uint64_t end) noexcept {
        const std::uint64_t extent = extents_.values[symbol];
        if (end == no_number) end = extent;
        if (first > end || end > extent)
            return failure{.code = errc::out_of_range, .detail = text{extents_.names[symbol]}, .expected = extent, .actual = first > end ? first : end};
        kept_[symbol] = {first, end - first};
        local_.values[symbol] = end - first;
        return {};
    }
    /// The kept range of a part's axis, in entries of a field.
    [[nodiscard]] placement_error kept_entries(const part_placement& part, std::size_t axis, const field_description& field, detail::kept_range& out) const noexcept {
        part_extents names = extents_;
        const std::size_t symbol = names.symbol(part.extents[axis]);
        const std::uint64_t granule = field.granule[axis];
        out = {0, 1};
        if (granule == 0) return placement_error::none;
        const auto [begin, count] = kept_[symbol];
        const std::uint64_t extent = extents_.values[symbol];
        if (begin % granule != 0 || (count % granule != 0 && begin + count != extent)) return placement_error::cuts_granule;
        out = {begin / granule, count / granule + (count % granule == 0 ? 0 : 1)};
        return placement_error::none;
    }

    result<void> make_outputs() noexcept {
        const std::string_view scope = options_.destination_scope.empty() ? scope_ : options_.destination_scope;
        plan_.expert_count_ = local_.values[0];
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
            each.name = {characters, each.name.size()};
            each.local_name = each.name.substr(scope.size() + 1);
            each.shape = {extents, each.shape.size()};
            characters += each.name.size();
            extents += each.shape.size();
        }
        return {};
    }

    /// The outputs of one field of one tensor of the destination's layout, if the source has that field.
    result<void> make_field(std::string_view scope, const tensor_description& tensor, const placement& names, const spelled_field& spelled) noexcept {
        const field_description& field = *spelled.field;
        std::uint32_t from_field = absent;
        for (std::uint32_t f = 0; f < from_.fields.size(); ++f)
            if (from_.fields[f].field->name == field.name) from_field = f;
        if (from_field == absent) return {};
        part_origin origins[max_placed_parts];
        bool any = false;
        for (std::size_t p = 0; p < names.part_count; ++p) {
            origins[p] = find_part(names.parts[p].part);
            any = any || has(origins[p].tensor, from_field);
        }
        if (!any) return {};
        for (std::size_t a = 0; a < max_part_axes; ++a)
            if (from_.fields[from_field].field->granule[a] != field.granule[a])
                return failure{.code = errc::cuts_granule, .scope = text{scope_}, .detail = "the two layouts give a field different granules"};
        const tensor_spec first = set_.spec(slot_of_any(origins, names.part_count, from_field));
        for (std::size_t p = 0; p < names.part_count; ++p) {
            if (!has(origins[p].tensor, from_field))
                return failure{.code = errc::missing_part, .tensor = source_name(origins[p].tensor, from_field, 0), .scope = text{scope_}};
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
        const std::size_t first_block = plan_.blocks_.size();
        const std::uint64_t count = tensor.per_expert() ? kept_[0].count : 1;
        // experts without elements cost a file nothing, so that its size does not bound their number
        const std::uint64_t most = size_bytes == 0 ? most_empty_experts : absent - first_output;
        if (count > most)
            return failure{.code = errc::shape_mismatch,
                           .tensor = std::move(whole_name),
                           .detail = "too many experts for a tensor each",
                           .expected = most,
                           .actual = count};
        for (std::uint64_t i = 0; i < count; ++i) {
            text full;
            if (!full.append(scope) || !full.append(".") || !detail::spell(full, tensor.name, kept_[0].begin + i, spelled.suffix)) return no_memory();
            // the pointers are set when all outputs are there; until then only the sizes count
            plan_output output{{{full.view().data(), full.size()}, first.type, {shape, rank}}, {}, size_bytes};
            if (!plan_.arena_.append(full.view().data(), full.size()) || !plan_.extents_.append(shape, rank) || !plan_.outputs_.push(output))
                return no_memory();
        }
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (auto done = make_blocks(tensor, placed, placed.parts[p], origins[p], from_field, first.type, first_output); !done) {
                if (done.error().tensor.empty()) done.error().tensor = std::move(whole_name);
                return done;
            }
        // a term of a user's own may be wrong: it must not write elsewhere, nor leave bytes unmade
        std::uint64_t made_bytes = 0;
        bool inside = true;
        for (std::size_t i = first_block; i < plan_.blocks_.size(); ++i) {
            const copy_block& block = plan_.blocks_[i];
            made_bytes += block.size_bytes();
            inside = inside && block.destination_offset + block.destination_extent_bytes() <= size_bytes;
        }
        if (!inside || made_bytes != count * size_bytes)
            return failure{.code = errc::shape_mismatch, .tensor = std::move(whole_name), .detail = "a term of the layout does not fill its tensor"};
        return {};
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
    result<void> make_blocks(const tensor_description& to_tensor, const placement& to, const part_placement& to_part, part_origin origin,
                             std::uint32_t from_field, dtype type, std::uint32_t first_output) noexcept {
        const tensor_description& from_tensor = from_.tensors[origin.tensor];
        const field_description& field = *from_.fields[from_field].field;
        const placement from = place(from_tensor, field, extents_);
        const part_placement& from_part = from.parts[origin.part];
        const bool expert_loop = !from_tensor.per_expert() && !to_tensor.per_expert();
        const auto refused = [&](placement_error error) noexcept {
            placement reason;
            reason.error = error;
            return misplaced(reason, {});
        };

        detail::loop_nest nest;
        for (std::size_t axis = expert_loop ? 0 : 1; axis <= to_part.part_axes; ++axis) {
            detail::kept_range kept = kept_[0];
            if (axis > 0)
                if (const auto error = kept_entries(to_part, axis - 1, field, kept); error != placement_error::none) return refused(error);
            const auto error = detail::add_axis(nest, {from, from_part, axis}, {to, to_part, axis}, kept);
            if (error != placement_error::none) return refused(error);
            if (kept.count == 0) return {};
        }
        detail::normalise(nest);
        nest.from_offset += detail::first_entry(from, from_part);
        nest.to_offset += detail::first_entry(to, to_part);

        // entries become bits, and a run of neighbours one copy
        const std::uint64_t entry_bits = bits(type);
        copy_block shape{};
        std::uint64_t run_bits = entry_bits;
        std::size_t loops = nest.count;
        if (loops > 0 && nest.loops[loops - 1].from_stride == 1 && nest.loops[loops - 1].to_stride == 1) run_bits *= nest.loops[--loops].extent;
        bool whole_bytes = run_bits % 8 == 0;
        for (std::size_t i = 0; i < loops; ++i) {
            const std::uint64_t from_bits = nest.loops[i].from_stride * entry_bits, to_bits = nest.loops[i].to_stride * entry_bits;
            whole_bytes = whole_bytes && from_bits % 8 == 0 && to_bits % 8 == 0;
            shape.loops[shape.loop_count++] = {nest.loops[i].extent, from_bits / 8, to_bits / 8};
        }
        shape.run_bytes = run_bits / 8;

        const std::uint64_t turns = expert_loop ? 1 : kept_[0].count;
        for (std::uint64_t i = 0; i < turns; ++i) {
            const std::uint64_t e = kept_[0].begin + i;
            std::uint64_t from_entry = nest.from_offset, to_entry = nest.to_offset;
            if (!expert_loop && !from_tensor.per_expert()) from_entry += detail::entry_of(from, from_part, 0, e);
            if (!expert_loop && !to_tensor.per_expert()) to_entry += detail::entry_of(to, to_part, 0, i);
            if (!whole_bytes || from_entry * entry_bits % 8 != 0 || to_entry * entry_bits % 8 != 0) return refused(placement_error::cuts_granule);
            const tensor_place place = set_.place(slot(origin.tensor, from_field, from_tensor.per_expert() ? e : 0));
            copy_block block = shape;
            block.source = place.source;
            block.output = first_output + static_cast<std::uint32_t>(to_tensor.per_expert() ? i : 0);
            block.source_offset = place.offset + from_entry * entry_bits / 8;
            block.destination_offset = to_entry * entry_bits / 8;
            if (!plan_.blocks_.push(block)) return no_memory();
        }
        return {};
    }

    [[nodiscard]] static bool same_loops(const copy_block& a, const copy_block& b) noexcept {
        bool same = a.loop_count == b.loop_count;
        for (std::uint32_t i = 0; same && i < a.loop_count; ++i)
            same = a.loops[i].extent == b.loops[i].extent && a.loops[i].source_stride == b.loops[i].source_stride &&
                   a.loops[i].destination_stride == b.loops[i].destination_stride;
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
        detail::array<copy_block>& blocks = plan_.blocks_;
        const auto before = [](const copy_block& a, const copy_block& b) noexcept {
            return a.source != b.source ? a.source < b.source : a.source_offset < b.source_offset;
        };
        if (!detail::sort(blocks.span(), before)) return no_memory();
        std::size_t kept = 0;
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const copy_block& next = blocks[i];
            if (kept > 0) {
                copy_block& last = blocks[kept - 1];
                if (last.output == next.output && last.source == next.source && last.source_offset + last.run_bytes == next.source_offset &&
                    last.destination_offset + last.run_bytes == next.destination_offset && same_loops(last, next)) {
                    last.run_bytes += next.run_bytes;
                    close_gaps(last);
                    continue;
                }
            }
            blocks[kept++] = next;
        }
        static_cast<void>(blocks.resize_unset(kept));
        return detail::sort(plan_.tensors_.span(), [](std::uint32_t a, std::uint32_t b) noexcept { return a < b; }) ? result<void>{} : no_memory();
    }

    tensor_set_ref set_;
    std::string_view scope_;
    const layout_description& from_;
    const layout_description& to_;
    const plan_options& options_;
    copy_plan plan_;

    detail::array<found_tensor> found_;
    std::uint32_t other_form_ = absent;  // a tensor of the destination's layout
    bool numbered_ = false;      // some name holds an expert's number,
    std::uint64_t highest_ = 0;  // and this is the highest
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
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope, const plan_options& options = {}) noexcept {
    static_assert(can_become<From, To>, "safefuse: the destination's layout places a part that the source's layout lacks or gives other extents");
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    return plan_maker::make(set, members->span(), scope, From::description, To::description, options);
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
