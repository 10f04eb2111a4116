// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: finds tensors that look like experts but match no known form. A plan would skip them,
// so programs that rewrite a checkpoint call this first.
#ifndef SAFEFUSE_DETECT_UNKNOWN_EXPERTS_HPP
#define SAFEFUSE_DETECT_UNKNOWN_EXPERTS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detail/expert_like.hpp>
#include <safefuse/layout/detail/layout_names.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace layouts {

/// Experts of Switch Transformers and NLLB-MoE. The model keeps them as separate modules, so there
/// is nothing to fuse.
///   source  transformers 5.17.0 SwitchTransformersExperts, NllbMoeExperts: ModuleDicts
using kept_wi_wo =
    layout<module_suffixes, tensor<"expert_{i}.wi", up>, tensor<"expert_{i}.wo", down>>;
using kept_fc12 =
    layout<module_suffixes, tensor<"expert_{i}.fc1", up>, tensor<"expert_{i}.fc2", down>>;

/// JetMoE's attention heads. The model calls them experts and keeps them as stored.
///   source  transformers 5.17.0 JetMoeMoA: JetMoeParallelExperts and a bias
using kept_heads = layout<suffixes<suffix<weight, ".weight">>, tensor<"input_linear", stack<up>>,
                          tensor<"output_linear", stack<down>>>;

}  // namespace layouts

/// Tensors that look like experts, are not planned, and are not known to be in the model's form.
struct unknown_experts {
    std::size_t count = 0;    ///< number of such tensors
    std::uint32_t first = 0;  ///< index of the first one in the set
};

namespace detail {

/// Whether a name is a tensor's name and the suffix of a field of a module: match() with the
/// layouts above, which this does not use because g++ would describe them in every file. A test
/// compares.
constexpr bool is_module_field(std::string_view name, std::string_view pattern) noexcept {
    constexpr const char* fields[] = {"weight",
                                      "bias",
                                      "weight_scale_inv",
                                      "weight_scale",
                                      "input_scale",
                                      "weight_packed",
                                      "weight_global_scale",
                                      "weight_scale_2",
                                      "weight_shape",
                                      "weight_g_idx",
                                      "input_global_scale",
                                      "weight_zero_point",
                                      "qweight",
                                      "qzeros",
                                      "scales",
                                      "g_idx"};
    std::uint64_t expert = 0;
    bool begins = false;
    if (!take_pattern(name, pattern, expert, begins) || !name.starts_with('.')) return false;
    for (const char* field : fields)
        if (name.substr(1) == field) return true;
    return false;
}

/// Whether models keep experts with this name as they are stored.
SAFEFUSE_NOINLINE constexpr bool is_kept_form(std::string_view name,
                                              std::size_t module_size) noexcept {
    // the module part of a numbered expert ends before the number's segment
    const std::string_view module = name.substr(0, module_size);
    if (module.ends_with("self_attention.experts") && module_size < name.size()) {
        const std::string_view local = name.substr(module_size + 1);
        return local == "bias" || local == "input_linear.weight" || local == "output_linear.weight";
    }
    std::size_t begin = module_size;
    while (begin > 0 && name[begin - 1] != '.') --begin;
    for (const char* pattern :
         {"expert_{i}.wi", "expert_{i}.wo", "expert_{i}.fc1", "expert_{i}.fc2"})
        if (is_module_field(name.substr(begin), pattern)) return true;
    return false;
}

/// The tool that stores experts this way, for a message; empty if unknown.
constexpr std::string_view known_writer(std::string_view name) noexcept {
    struct writer {
        const char *word, *what;
    };
    constexpr writer writers[] = {
        {"base_layer", "an adapter of PEFT that was not merged"},
        {"lora_", "an adapter of PEFT that was not merged"},
        {"deepspeed_experts", "DeepSpeed's form"},
        {"linear_fc", "Megatron's form"},
        {"switch_mlp", "MLX's form"},
        {"switch_glu", "MLX's form"},
        {"_weight_qdata", "torchao's form"},
        {"absmax", "bitsandbytes' form"},
        {"quant_map", "bitsandbytes' form"},
        {"quant_state", "bitsandbytes' form"},
        {"gate_up_projs", "a list of modules, as bitsandbytes and unsloth make it"},
        {"down_projs", "a list of modules, as bitsandbytes and unsloth make it"},
        {"w13", "an inference engine's form"},
    };
    for (const writer& each : writers)
        if (has_word(name, each.word)) return each.what;
    return {};
}

/// The length of the longest common substring of two names, for choosing the nearest form.
constexpr std::size_t likeness(std::string_view name, std::string_view pattern) noexcept {
    std::size_t most = 0;
    for (std::size_t i = 0; i < name.size(); ++i)
        for (std::size_t j = 0; j < pattern.size(); ++j) {
            std::size_t same = 0;
            while (i + same < name.size() && j + same < pattern.size() &&
                   name[i + same] == pattern[j + same])
                ++same;
            if (same > most) most = same;
        }
    return most;
}

/// The tensor of the family's forms whose name is nearest to `name`:
/// mlp.experts.{i}.gate_proj.weight.
inline text nearest_form(const family_description& family, std::string_view name) noexcept {
    text best;
    std::size_t most = 0;
    for (std::size_t m = 0; m < family.module_count(); ++m) {
        const module_description module = family.module_at(m);
        for (const layout_description* layout : {module.from, module.to}) {
            const std::string_view path = layout == module.from ? module.from_path : module.to_path;
            for (const tensor_description& tensor : layout->tensors) {
                // only the part from the module on is compared; the part before it belongs to the
                // layer
                const std::size_t alike =
                    likeness(name, tensor.name) * 4 +
                    (find_module(name, path).first != std::string_view::npos ? 1 : 0);
                if (alike <= most) continue;
                most = alike;
                best = text{path};
                best.append(".");
                best.append(tensor.name);
                best.append(layout->fields[0].suffix);
            }
        }
    }
    return best;
}

}  // namespace detail

/// Finds tensors whose names look like experts and that are in no scope.
///   scopes   the planned scopes: experts_scopes::find of the same set
///   fails    file_changed, out_of_memory
[[nodiscard]] inline result<unknown_experts> find_unknown_experts(
    tensor_set_ref set, const experts_scopes& scopes) noexcept {
    vector<bool> known;
    if (!known.resize(set.size(), false)) return failure{.code = errc::out_of_memory};
    for (std::size_t s = 0; s < scopes.size(); ++s)
        for (const std::uint32_t member : scopes[s].tensors) known[member] = true;
    for (const std::uint32_t member : scopes.passed_tensors()) known[member] = true;
    unknown_experts out;
    detail::source_check check{set};
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (known[i]) continue;
        if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
        const std::string_view name = set.spec(i).name;
        const std::size_t module_size = detail::expert_like_size(name);
        if (module_size == 0 || detail::is_kept_form(name, module_size)) continue;
        if (out.count++ == 0) out.first = static_cast<std::uint32_t>(i);
    }
    return out;
}

/// Finds matrices of experts without elements. ZeRO-3 leaves them if its shards are not gathered
/// before saving.
///   fails   shape_mismatch (the failure names the first one)
[[nodiscard]] inline result<void> check_experts_have_elements(
    tensor_set_ref set, const family_description& family, const experts_scopes& scopes) noexcept {
    for (std::size_t s = 0; s < scopes.experts_count(); ++s) {
        const experts_scope scope = scopes[s];
        const module_description module = family.module_at(scope.module);
        for (const std::uint32_t member : scope.tensors) {
            const tensor_spec spec = set.spec(member);
            bool is_empty = false;
            for (const std::uint64_t extent : spec.shape) is_empty = is_empty || extent == 0;
            if (!is_empty) continue;
            const std::string_view local = spec.name.substr(scope.name.size() + 1);
            bool is_value = false;
            for (const layout_description* layout : {module.from, module.to})
                if (const detail::matched_name name = detail::match(*layout, local);
                    name.verdict == detail::name_verdict::tensor)
                    is_value =
                        is_value || layout->fields[name.field].field->role == field_role::value;
            if (!is_value) continue;
            failure why{.code = errc::shape_mismatch,
                        .file = text{set.source_name(set.place(member).source)},
                        .tensor = text{spec.name},
                        .scope = text{scope.name}};
            why.detail.append("an expert's matrix has no elements: its shape is [");
            for (std::size_t a = 0; a < spec.shape.size(); ++a) {
                if (a != 0) why.detail.append(", ");
                why.detail.append_number(spec.shape[a]);
            }
            why.detail.append("]; a checkpoint of ZeRO-3 must be gathered before it is saved");
            return why;
        }
    }
    return {};
}

/// Describes unknown experts in a failure: the first tensor, how many there are, which tool stores
/// experts this way, and the nearest form of the family.
[[nodiscard]] inline failure describe(tensor_set_ref set, const unknown_experts& found,
                                      const family_description& family) noexcept {
    const std::string_view name = set.spec(found.first).name;
    failure out{.code = errc::unknown_experts,
                .file = text{set.source_name(set.place(found.first).source)},
                .tensor = text{name}};
    out.detail.append_count(found.count);
    out.detail.append(found.count == 1 ? " such tensor" : " such tensors");
    if (const std::string_view writer = detail::known_writer(name); !writer.empty()) {
        out.detail.append("; it is ");
        out.detail.append(writer);
    }
    if (const text nearest = detail::nearest_form(family, name); !nearest.empty()) {
        out.detail.append("; the nearest form of family ");
        out.detail.append(family.name);
        out.detail.append(" is \"");
        out.detail.append(nearest);
        out.detail.append("\"");
    }
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
