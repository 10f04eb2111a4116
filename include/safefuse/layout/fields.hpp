// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: fields: the kinds of data that are stored for a part (its weight, block scales, packed
// codes), the forms of each field, and its suffixes in layouts.
#ifndef SAFEFUSE_LAYOUT_FIELDS_HPP
#define SAFEFUSE_LAYOUT_FIELDS_HPP

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Characters as a template argument: part<"gate", "I", "H">.
template <std::size_t Size>
struct fixed_text {
    char characters[Size]{};  ///< the literal, with its zero
    /// A literal converts.
    consteval fixed_text(const char (&literal)[Size]) noexcept {
        for (std::size_t i = 0; i < Size; ++i) characters[i] = literal[i];
    }
    /// The characters without the zero.
    [[nodiscard]] constexpr std::string_view view() const noexcept {
        return detail::characters_at(characters, Size - 1);
    }
};

/// The role of a field's elements.
enum class field_role : std::uint8_t {
    /// The part itself: numbers or codes, packed or not.
    value,
    /// Something added to the part's product, such as a bias.
    addend,
    /// One factor for a block of elements. The last block may be incomplete.
    scale,
    /// Anything else, such as the scale of the inputs. The last block may be incomplete, too.
    other,
};

/// Largest number of axes of a part.
inline constexpr std::size_t max_part_axes = 3;
/// A block_size equal to the extent of the axis.
inline constexpr std::uint64_t whole_axis = ~std::uint64_t{0};

/// One form in which a field is stored. `block_size[a]` is the number of elements along axis `a` of
/// the part for one stored entry. 0: the field does not have that axis (a bias has no input axis).
struct field_form {
    /// Role of the elements.
    field_role role = field_role::value;
    /// Parts of one tensor must store equal values along an axis that the field lacks.
    bool is_shared = false;
    /// A matrix is stored with its axes exchanged.
    bool is_transposed = false;
    /// By axis of the part: elements per stored entry.
    std::uint64_t block_size[max_part_axes]{};
    /// Not 0: extent of the field's own axis, after all others.
    std::uint64_t entries = 0;

    /// Equal in every member.
    friend constexpr bool operator==(const field_form&, const field_form&) noexcept = default;
};

/// One kind of data that is stored for a part, and its forms. A plan uses the first form that the
/// shapes of all tensors fit. If a second form fits and moves different bytes, the plan fails.
struct field_description {
    std::string_view name;                ///< unique in a layout: weight_scale_inv
    field_role role = field_role::value;  ///< of all its forms
    span<const field_form> forms;         ///< most likely first
};

/// A form of a field by its block_size along each axis of the part. block_of<1, 16> is one entry
/// for 16 elements of a row.
template <std::uint64_t... Granule>
struct block_of {
    static_assert(sizeof...(Granule) <= max_part_axes,
                  "safefuse: a field has more block sizes than a part can have axes");
    static constexpr field_form form{.block_size = {Granule...}};  ///< the form as data
};
namespace detail {

template <class Value>
constexpr field_form with(field_form form, Value field_form::* member, Value value) noexcept {
    form.*member = value;
    return form;
}

}  // namespace detail

/// @{
/// Quantisation schemes: the number of elements of a part [out, in] for one stored entry. Like
/// block_of, each is a form of a field.
using per_element = block_of<1, 1>;                 ///< one entry for each element
using per_tensor = block_of<0, 0>;                  ///< one for the part, stored as a scalar: []
using per_tensor_vector = block_of<whole_axis, 0>;  ///< one for the part, stored as [1]
using per_channel = block_of<1, whole_axis>;        ///< one for each row: [out, 1]
using per_channel_vector = block_of<1, 0>;          ///< one for each row: [out]
using per_input = block_of<0, 1>;                   ///< one for each column: [in]
/// One entry for `Columns` neighbours in a row: [out, in / Columns].
template <std::uint64_t Columns>
using per_group = block_of<1, Columns>;
/// One entry for a block of `Rows` rows and `Columns` columns: [out / Rows, in / Columns].
template <std::uint64_t Rows, std::uint64_t Columns>
using per_block = block_of<Rows, Columns>;
/// One integer for `Count` codes of a row: [out, in / Count].
template <std::uint64_t Count>
using packed_along_input = block_of<1, Count>;
/// @}

/// A scheme whose entries are packed: one integer contains the entries of `Count` neighbouring
/// rows. packed_along_output<8, per_group<32>> is [out / 8, in / 32].
template <std::uint64_t Count, class Scheme = per_element>
struct packed_along_output {
    static_assert(Scheme::form.block_size[0] == 1,
                  "safefuse: what is packed along the output axis has one entry for each row");
    /// The form as data.
    static constexpr field_form form{.block_size = {Count, Scheme::form.block_size[1]}};
};

/// A form stored with the axes of the matrix exchanged: [in, out] instead of [out, in]. The
/// block_sizes still begin with out.
template <class Form>
struct transposed_form {
    /// The form as data.
    static constexpr field_form form = detail::with(Form::form, &field_form::is_transposed, true);
};
/// A form with one more axis, of `Entries` entries, after all others.
template <std::uint64_t Entries, class Form>
struct with_entries {
    /// The form as data.
    static constexpr field_form form = detail::with(Form::form, &field_form::entries, Entries);
};
/// A form whose values are stored once for gate and up together, and must be equal.
template <class Form>
struct shared_form {
    /// The form as data.
    static constexpr field_form form = detail::with(Form::form, &field_form::is_shared, true);
};

/// A field with several forms: its name, its role and the forms, most likely first.
template <fixed_text Name, field_role Role, class... Form>
struct quantized_field {
    static_assert(sizeof...(Form) > 0, "safefuse: a field has at least one form");

private:
    static constexpr field_form in_role(field_form form) noexcept {
        form.role = Role;
        return form;
    }
    static constexpr field_form forms[] = {in_role(Form::form)...};

public:
    /// The field as data.
    static constexpr field_description description{Name.view(), Role, forms};
};

/// A field with one form: its name, its role and its block_size along each axis of the part.
template <fixed_text Name, field_role Role, std::uint64_t... Granule>
struct field : quantized_field<Name, Role, block_of<Granule...>> {};

/// A field and its suffix in a layout.
struct field_suffix {
    const field_description* field;  ///< never null
    /// Follows the name of the tensor: ".weight", "_bias".
    std::string_view suffix;
};

/// A field's suffix in one layout.
template <class Field, fixed_text Suffix>
struct suffix {
    /// The suffix as data.
    static constexpr field_suffix description{&Field::description, Suffix.view()};
};

namespace detail {

constexpr bool all_differ(std::initializer_list<std::string_view> names) noexcept {
    for (const std::string_view& name : names)
        for (const std::string_view* other = names.begin(); other != &name; ++other)
            if (name == *other) return false;
    return true;
}
// The lists are in functions because of nvcc 13: it rewrites a pack in a static_assert to code that
// g++ rejects.
template <class... Spelled>
constexpr bool suffixes_differ() noexcept {
    return all_differ({Spelled::description.suffix...});
}
template <class... Spelled>
constexpr bool fields_differ() noexcept {
    return all_differ({Spelled::description.field->name...});
}

}  // namespace detail

/// The fields that a layout knows, and their suffixes.
template <class... Spelled>
struct suffixes {
    static_assert(detail::suffixes_differ<Spelled...>(),
                  "safefuse: two fields have the same suffix");
    static_assert(detail::fields_differ<Spelled...>(), "safefuse: a field has two suffixes");
    /// The suffixes as data, in the order given.
    static constexpr field_suffix fields[] = {Spelled::description...};
};

// Known fields

/// The matrix itself, or packed codes: FP4, two to a byte (NVFP4, MXFP4).
using weight = quantized_field<"weight", field_role::value, per_element, packed_along_input<2>>;
using bias = quantized_field<"bias", field_role::addend, per_channel_vector>;
/// One F32 factor per 128 x 128 block of FP8 codes, as DeepSeek-V3 stores it; one E8M0 byte per 32
/// codes (MXFP8).
using weight_scale_inv =
    quantized_field<"weight_scale_inv", field_role::scale, per_block<128, 128>, per_group<32>>;
/// Factors of codes by row, by group of a row, by block, or one for all: FP8 and INT8 of
/// compressed-tensors and ModelOpt, NVFP4, MXFP4.
using weight_scale =
    quantized_field<"weight_scale", field_role::scale, per_channel, per_group<16>, per_group<32>,
                    per_block<128, 128>, per_group<64>, per_group<128>, per_group<256>, per_tensor,
                    per_tensor_vector, per_channel_vector>;
/// ModelOpt's second factor of NVFP4, one for the part.
using weight_scale_2 =
    quantized_field<"weight_scale_2", field_role::scale, per_tensor, per_tensor_vector>;
using input_scale =
    quantized_field<"input_scale", field_role::other, per_tensor, per_tensor_vector>;
/// compressed-tensors: codes packed along the input axis, FP4 two to a byte, or integers of 4, 8 or
/// 2 bits in an I32.
using weight_packed =
    quantized_field<"weight_packed", field_role::value, packed_along_input<8>,
                    packed_along_input<2>, packed_along_input<4>, packed_along_input<16>>;
/// compressed-tensors' second factor of NVFP4, one for the part: the reciprocal of ModelOpt's.
using weight_global_scale =
    quantized_field<"weight_global_scale", field_role::scale, per_tensor_vector, per_tensor>;
using input_global_scale =
    quantized_field<"input_global_scale", field_role::other, per_tensor_vector, per_tensor>;
/// The shape before packing: two numbers for each part. Fusing does not merge them.
using weight_shape =
    quantized_field<"weight_shape", field_role::other, with_entries<2, per_tensor>>;
/// Zero points of groups, packed along the output axis or not at all.
using weight_zero_point =
    quantized_field<"weight_zero_point", field_role::other, packed_along_output<8, per_channel>,
                    packed_along_output<8, per_group<128>>, packed_along_output<8, per_group<64>>,
                    packed_along_output<8, per_group<32>>, per_channel, per_group<128>,
                    per_group<64>, per_group<32>>;
/// GPTQ packs integers along the input axis, AWQ along the output axis; both store [in, out].
using qweight =
    quantized_field<"qweight", field_role::value, transposed_form<packed_along_input<8>>,
                    transposed_form<packed_along_output<8>>, transposed_form<packed_along_input<4>>,
                    transposed_form<packed_along_output<4>>,
                    transposed_form<packed_along_input<16>>>;
using qzeros = quantized_field<"qzeros", field_role::other,
                               transposed_form<packed_along_output<4, per_channel>>,
                               transposed_form<packed_along_output<4, per_group<128>>>,
                               transposed_form<packed_along_output<4, per_group<64>>>,
                               transposed_form<packed_along_output<4, per_group<32>>>,
                               transposed_form<packed_along_output<8, per_channel>>,
                               transposed_form<packed_along_output<8, per_group<128>>>,
                               transposed_form<packed_along_output<8, per_group<64>>>,
                               transposed_form<packed_along_output<8, per_group<32>>>>;
using scales = quantized_field<"scales", field_role::scale, transposed_form<per_channel>,
                               transposed_form<per_group<128>>, transposed_form<per_group<64>>,
                               transposed_form<per_group<32>>, transposed_form<per_group<256>>>;
/// The group of each input. It must be equal for gate and up.
using g_idx = quantized_field<"g_idx", field_role::other, shared_form<per_input>>;
using weight_g_idx = quantized_field<"weight_g_idx", field_role::other, shared_form<per_input>>;
/// gpt-oss: MXFP4 codes, 32 of a row in 16 bytes, with one E8M0 byte as their scale.
using mxfp4_blocks =
    quantized_field<"mxfp4_blocks", field_role::value, with_entries<16, per_group<32>>>;
using mxfp4_scales = quantized_field<"mxfp4_scales", field_role::scale, per_group<32>>;

/// Suffixes for fields as tensors of a module, as in torch.nn.Linear and quantisers:
/// `gate_proj.weight`, `gate_proj.weight_scale`.
using module_suffixes =
    suffixes<suffix<weight, ".weight">, suffix<bias, ".bias">,
             suffix<weight_scale_inv, ".weight_scale_inv">, suffix<weight_scale, ".weight_scale">,
             suffix<weight_scale_2, ".weight_scale_2">, suffix<input_scale, ".input_scale">,
             suffix<weight_packed, ".weight_packed">,
             suffix<weight_global_scale, ".weight_global_scale">,
             suffix<input_global_scale, ".input_global_scale">,
             suffix<weight_shape, ".weight_shape">, suffix<weight_zero_point, ".weight_zero_point">,
             suffix<weight_g_idx, ".weight_g_idx">, suffix<qweight, ".qweight">,
             suffix<qzeros, ".qzeros">, suffix<scales, ".scales">, suffix<g_idx, ".g_idx">>;
/// Suffixes for fields as parameters, as in transformers' fused experts (`gate_up_proj`,
/// `gate_up_proj_bias`, `gate_up_proj_scale_inv`); all others as in ModelOpt
/// (`gate_up_proj_weight_scale_2`).
using parameter_suffixes =
    suffixes<suffix<weight, "">, suffix<bias, "_bias">, suffix<weight_scale_inv, "_scale_inv">,
             suffix<weight_scale, "_weight_scale">, suffix<weight_scale_2, "_weight_scale_2">,
             suffix<input_scale, "_input_scale">, suffix<weight_packed, "_weight_packed">,
             suffix<weight_global_scale, "_weight_global_scale">,
             suffix<input_global_scale, "_input_global_scale">,
             suffix<weight_shape, "_weight_shape">, suffix<weight_zero_point, "_weight_zero_point">,
             suffix<weight_g_idx, "_weight_g_idx">, suffix<qweight, "_qweight">,
             suffix<qzeros, "_qzeros">, suffix<scales, "_scales">, suffix<g_idx, "_g_idx">>;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
