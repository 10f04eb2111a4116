// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: whether a tensor's name looks like an expert's, whatever the model: told by the names
// of modules, by numbers and by fields. No family and no shape is asked: a convolution has three
// axes, too.
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
/// What follows it and its dot.
constexpr std::string_view after_segment(std::string_view name) noexcept {
    const std::size_t size = first_segment(name).size();
    return size < name.size() ? name.substr(size + 1) : std::string_view{};
}

/// Shared experts see every token: they are a dense MLP beside the routed ones.
constexpr bool is_shared(std::string_view segment) noexcept { return has_word(segment, "share"); }

/// A module of many experts: experts, local_experts, deepspeed_experts; MLX calls its own
/// switch_mlp and switch_glu.
constexpr bool is_experts_module(std::string_view segment) noexcept {
    if (is_shared(segment)) return false;
    return ends_in_word(segment, "experts") || ends_in_word(segment, "experts_list") ||
           ends_in_word(segment, "expert_list") || is_word(segment, "switch_mlp") ||
           is_word(segment, "switch_glu");
}
/// One expert that has its number in its own name: expert_7, expert7, experts_7.
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

/// Whether a segment names a matrix that experts have: w1, w13_weight, gate_up_proj, linear_fc1,
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

/// Whether dense layers have a matrix of that name, too: Kimi Linear and MiniMax M3 call these
/// block_sparse_moe as well.
constexpr bool is_dense_matrix(std::string_view segment) noexcept {
    for (const std::string_view word :
         {std::string_view{"gate_proj"}, std::string_view{"up_proj"}, std::string_view{"down_proj"},
          std::string_view{"fc1"}, std::string_view{"fc2"}})
        if (is_word(segment, word)) return true;
    return false;
}

/// What a module of experts has beside the experts: routers, norms, corrections and counts.
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
/// Whole networks that are called experts: what a module of experts holds has neither layers nor
/// attention of its own.
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

/// Whether a name looks like that of a tensor of routed experts. The size of the part of the name
/// that tells: the module's, and with a numbered expert that number, too; 0: it does not look so.
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
                // another such module further in says more
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
