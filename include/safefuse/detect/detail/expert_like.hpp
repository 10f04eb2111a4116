// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: whether a tensor's name looks like an expert's, for any model. It uses the names of
// modules, numbers and fields. It uses no family and no shape: a convolution also has three axes.
#ifndef SAFEFUSE_DETECT_DETAIL_EXPERT_LIKE_HPP
#define SAFEFUSE_DETECT_DETAIL_EXPERT_LIKE_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

constexpr char lower_case(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Whether `word` begins at character `at` of `segment`, in lower or upper case.
constexpr bool has_word_at(std::string_view segment, std::size_t at,
                           std::string_view word) noexcept {
    if (at > segment.size() || segment.size() - at < word.size()) return false;
    for (std::size_t i = 0; i < word.size(); ++i)
        if (lower_case(segment[at + i]) != word[i]) return false;
    return true;
}
constexpr bool has_word(std::string_view segment, std::string_view word) noexcept {
    for (std::size_t i = 0; i < segment.size(); ++i)
        if (has_word_at(segment, i, word)) return true;
    return false;
}
constexpr bool is_word(std::string_view segment, std::string_view word) noexcept {
    return segment.size() == word.size() && has_word_at(segment, 0, word);
}
constexpr bool ends_in_word(std::string_view segment, std::string_view word) noexcept {
    return segment.size() >= word.size() &&
           has_word_at(segment, segment.size() - word.size(), word);
}
constexpr bool is_digits(std::string_view segment) noexcept {
    for (const char c : segment)
        if (c < '0' || c > '9') return false;
    return !segment.empty();
}

/// The first dotted segment of `name`.
constexpr std::string_view first_segment(std::string_view name) noexcept {
    std::size_t size = 0;
    while (size < name.size() && name[size] != '.') ++size;
    return name.substr(0, size);
}
/// The part after the first segment and its dot.
constexpr std::string_view after_segment(std::string_view name) noexcept {
    const std::size_t size = first_segment(name).size();
    return size < name.size() ? name.substr(size + 1) : std::string_view{};
}

/// Whether a segment names shared experts. They process every token: they are a dense MLP next to
/// the routed ones.
constexpr bool is_shared(std::string_view segment) noexcept { return has_word(segment, "share"); }

/// Whether a segment names a module of many experts: experts, local_experts, deepspeed_experts; in
/// MLX also switch_mlp and switch_glu.
constexpr bool is_experts_module(std::string_view segment) noexcept {
    if (is_shared(segment)) return false;
    return ends_in_word(segment, "experts") || ends_in_word(segment, "experts_list") ||
           ends_in_word(segment, "expert_list") || is_word(segment, "switch_mlp") ||
           is_word(segment, "switch_glu");
}
/// Whether a segment names one expert and contains its number: expert_7, expert7, experts_7.
constexpr bool is_numbered_expert(std::string_view segment) noexcept {
    if (is_shared(segment)) return false;
    std::size_t digits = 0;
    while (digits < segment.size() && segment[segment.size() - 1 - digits] >= '0' &&
           segment[segment.size() - 1 - digits] <= '9')
        ++digits;
    if (digits == 0) return false;
    std::string_view stem = segment.substr(0, segment.size() - digits);
    if (!stem.empty() && (stem[stem.size() - 1] == '_' || stem[stem.size() - 1] == '-'))
        stem = stem.substr(0, stem.size() - 1);
    return ends_in_word(stem, "expert") || ends_in_word(stem, "experts");
}

/// Whether a segment names a matrix of an expert: w1, w13_weight, gate_up_proj, linear_fc1,
/// input_linear.
constexpr bool is_expert_matrix(std::string_view segment) noexcept {
    for (const std::string_view word :
         {std::string_view{"w1"}, std::string_view{"w2"}, std::string_view{"w3"},
          std::string_view{"w13"}, std::string_view{"v1"}, std::string_view{"wi"},
          std::string_view{"wo"}, std::string_view{"gate_up"}, std::string_view{"gate_proj"},
          std::string_view{"up_proj"}, std::string_view{"down_proj"}, std::string_view{"fc1"},
          std::string_view{"fc2"}, std::string_view{"linear_fc1"}, std::string_view{"linear_fc2"},
          std::string_view{"input_linear"}, std::string_view{"output_linear"}})
        if (has_word_at(segment, 0, word) &&
            (segment.size() == word.size() || segment[word.size()] == '_' ||
             (segment[word.size()] >= '0' && segment[word.size()] <= '9')))
            return true;
    return false;
}

/// Whether dense layers also have a matrix with this name: Kimi Linear and MiniMax M3 call dense
/// layers block_sparse_moe too.
constexpr bool is_dense_matrix(std::string_view segment) noexcept {
    for (const std::string_view word :
         {std::string_view{"gate_proj"}, std::string_view{"up_proj"}, std::string_view{"down_proj"},
          std::string_view{"fc1"}, std::string_view{"fc2"}})
        if (is_word(segment, word)) return true;
    return false;
}

/// Whether a segment names something in a module of experts that is not an expert: routers, norms,
/// corrections and counts.
constexpr bool is_beside_experts(std::string_view segment) noexcept {
    for (const std::string_view word :
         {std::string_view{"gate"}, std::string_view{"wg"}, std::string_view{"bias_correction"},
          std::string_view{"tid2eid"}})
        if (is_word(segment, word)) return true;
    for (const std::string_view word :
         {std::string_view{"router"}, std::string_view{"norm"}, std::string_view{"correction"},
          std::string_view{"tokens_per"}, std::string_view{"expert_bias"},
          std::string_view{"expert_count"}, std::string_view{"expert_load"},
          std::string_view{"experts_bias"}, std::string_view{"temperature"},
          std::string_view{"num_experts"}})
        if (has_word(segment, word)) return true;
    return is_shared(segment);
}
/// Whether a name belongs to a whole network that is called expert: it contains layers or attention
/// of its own.
constexpr bool is_network(std::string_view name) noexcept {
    for (; !name.empty(); name = after_segment(name)) {
        const std::string_view segment = first_segment(name);
        if (is_word(segment, "layers") || is_word(segment, "model") || is_word(segment, "blocks") ||
            has_word(segment, "attn") || has_word(segment, "attention") ||
            has_word(segment, "embed"))
            return true;
    }
    return false;
}

/// Whether a name looks like a tensor of routed experts. Returns the size of the deciding part of
/// the name: up to the module, or up to the number of a numbered expert. Returns 0 if it does not
/// look like one.
constexpr std::size_t expert_like_size(std::string_view name) noexcept {
    std::size_t before = 0;
    bool shared = false;
    for (std::string_view rest = name; !rest.empty();) {
        const std::string_view segment = first_segment(rest);
        const std::string_view inner = after_segment(rest);
        const std::size_t end = before + segment.size();
        const std::string_view child = first_segment(inner);
        shared = shared || is_shared(segment);
        if (!shared) {
            const bool is_last = inner.empty();
            if (is_numbered_expert(segment) && !is_last && !is_network(inner)) return end;
            if (is_experts_module(segment)) {
                if (is_last) return end;  // a parameter that is called experts
                if (is_digits(child)) return end + 1 + child.size();
                // another such module further in decides
                if (!child.empty() && !is_experts_module(child) && !is_numbered_expert(child) &&
                    !is_beside_experts(child) && !is_network(inner))
                    return end;
                if (is_beside_experts(child)) return 0;
            } else if ((is_word(segment, "expert") || ends_in_word(segment, "moe")) &&
                       is_digits(child) && !after_segment(inner).empty()) {
                return end + 1 + child.size();
            } else if (ends_in_word(segment, "moe") && is_expert_matrix(child) &&
                       !is_dense_matrix(child)) {
                return end;
            } else if (is_last && (has_word_at(segment, 0, "experts_") ||
                                   has_word_at(segment, 0, "expert_"))) {
                std::string_view matrix =
                    segment.substr(has_word_at(segment, 0, "experts_") ? 8 : 7);
                if (is_expert_matrix(matrix)) return end;
            }
        }
        before = end + 1;
        rest = inner;
    }
    return 0;
}

constexpr bool looks_like_expert(std::string_view name) noexcept {
    return expert_like_size(name) != 0;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
