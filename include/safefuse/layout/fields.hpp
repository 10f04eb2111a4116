// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: fields: what is stored of a part beside or instead of its weight (block scales, packed
// codes), the forms in which each field is found, and its suffixes in layouts.
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

/// Most axes of a part.
inline constexpr std::size_t max_part_axes = 3;
/// A block_size equal to the extent of the axis, whatever it is.
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

/// A field of a part, beside or instead of its weight, and the forms in which it is found. A plan
/// uses the first form that fits the shapes of all tensors.
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

/// A form with the axes of the matrix exchanged: [in, out] instead of [out, in]. The block_sizes
/// still name out first.
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
/// A form whose values must be equal for gate and up, and are stored once for both.
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
// The lists are in functions because nvcc 13 passes a list with a pack in a static_assert on in a
// form that g++ rejects.
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

/// The weight of most checkpoints, and packed codes: FP4, two per byte (NVFP4, MXFP4).
using weight = quantized_field<"weight", field_role::value, block_of<1, 1>, block_of<1, 2>>;
using bias = field<"bias", field_role::addend, 1, 0>;
/// One F32 scale per 128 x 128 block of FP8 codes, as in DeepSeek-V3, or one E8M0 byte per 32 codes
/// (MXFP8).
using weight_scale_inv =
    quantized_field<"weight_scale_inv", field_role::scale, block_of<128, 128>, block_of<1, 32>>;
/// Scales of codes per row, per group of a row, per block, or one for all: FP8 and INT8 of
/// compressed-tensors and ModelOpt, NVFP4, MXFP4.
using weight_scale =
    quantized_field<"weight_scale", field_role::scale, block_of<1, whole_axis>, block_of<1, 16>,
                    block_of<1, 32>, block_of<128, 128>, block_of<1, 64>, block_of<1, 128>,
                    block_of<1, 256>, block_of<0, 0>, block_of<whole_axis, 0>, block_of<1, 0>>;
/// ModelOpt's second scale of NVFP4, one for all.
using weight_scale_2 =
    quantized_field<"weight_scale_2", field_role::scale, block_of<0, 0>, block_of<whole_axis, 0>>;
using input_scale =
    quantized_field<"input_scale", field_role::other, block_of<0, 0>, block_of<whole_axis, 0>>;
/// compressed-tensors: codes packed along the input axis: FP4, two per byte, or integers of 4, 8 or
/// 2 bits in an I32.
using weight_packed = quantized_field<"weight_packed", field_role::value, block_of<1, 8>,
                                      block_of<1, 2>, block_of<1, 4>, block_of<1, 16>>;
/// The NVFP4 scale of compressed-tensors, one for all: the reciprocal of ModelOpt's.
using weight_global_scale = quantized_field<"weight_global_scale", field_role::scale,
                                            block_of<whole_axis, 0>, block_of<0, 0>>;
using input_global_scale = quantized_field<"input_global_scale", field_role::other,
                                           block_of<whole_axis, 0>, block_of<0, 0>>;
/// The shape before packing: two numbers per part, which are kept apart.
using weight_shape =
    quantized_field<"weight_shape", field_role::other, with_entries<2, block_of<0, 0>>>;
/// Zero points of groups, packed along the output axis or not packed.
using weight_zero_point =
    quantized_field<"weight_zero_point", field_role::other, block_of<8, whole_axis>,
                    block_of<8, 128>, block_of<8, 64>, block_of<8, 32>, block_of<1, whole_axis>,
                    block_of<1, 128>, block_of<1, 64>, block_of<1, 32>>;
/// GPTQ packs integers along the input axis, AWQ along the output axis. Both store [in, out].
using qweight = quantized_field<"qweight", field_role::value, transposed_form<block_of<1, 8>>,
                                transposed_form<block_of<8, 1>>, transposed_form<block_of<1, 4>>,
                                transposed_form<block_of<4, 1>>, transposed_form<block_of<1, 16>>>;
using qzeros =
    quantized_field<"qzeros", field_role::other, transposed_form<block_of<4, whole_axis>>,
                    transposed_form<block_of<4, 128>>, transposed_form<block_of<4, 64>>,
                    transposed_form<block_of<4, 32>>, transposed_form<block_of<8, whole_axis>>,
                    transposed_form<block_of<8, 128>>, transposed_form<block_of<8, 64>>,
                    transposed_form<block_of<8, 32>>>;
using scales =
    quantized_field<"scales", field_role::scale, transposed_form<block_of<1, whole_axis>>,
                    transposed_form<block_of<1, 128>>, transposed_form<block_of<1, 64>>,
                    transposed_form<block_of<1, 32>>, transposed_form<block_of<1, 256>>>;
/// The group of each input. Gate and up must be equal.
using g_idx = quantized_field<"g_idx", field_role::other, shared_form<block_of<0, 1>>>;
using weight_g_idx =
    quantized_field<"weight_g_idx", field_role::other, shared_form<block_of<0, 1>>>;
/// gpt-oss: 32 MXFP4 codes of a row in 16 bytes, with one E8M0 byte.
using mxfp4_blocks =
    quantized_field<"mxfp4_blocks", field_role::value, with_entries<16, block_of<1, 32>>>;
using mxfp4_scales = field<"mxfp4_scales", field_role::scale, 1, 32>;

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
