// What a case of the conformance suite is. The cases themselves: header_cases.cpp (single files),
// index_cases.cpp (directories).
#ifndef SAFEFUSE_TESTS_CONFORMANCE_SUITE_HPP
#define SAFEFUSE_TESTS_CONFORMANCE_SUITE_HPP

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/core/result.hpp>
#include <safefuse/format/header.hpp>

namespace conformance {

using safefuse::errc;

/// How strictly a file is judged.
enum class profile : std::uint8_t { strict, standard, reference, lenient };
inline constexpr std::array profiles{profile::strict, profile::standard, profile::reference,
                                     profile::lenient};

inline std::string_view name(profile which) {
    constexpr std::string_view names[] = {"strict", "default", "reference", "lenient"};
    return names[static_cast<std::size_t>(which)];
}

inline safefuse::read_options options(profile which) {
    switch (which) {
    case profile::strict: return safefuse::read_options::strict();
    case profile::standard: break;
    case profile::reference: return safefuse::read_options::reference();
    case profile::lenient: return safefuse::read_options::lenient();
    }
    return {};
}

// The words for failures in the tables that are written for other programs.
using safefuse::name;
/// "accept", or the word for the failure.
inline std::string_view name(const std::optional<errc>& refusal) {
    return refusal ? name(*refusal) : std::string_view{"accept"};
}

/// One tensor file and how it is judged. The file is `head`, then that many spaces, then that many
/// zeros, so that what is too large to be kept can still be described.
struct header_case {
    std::string name;
    std::string topic;
    std::string reason;
    std::string head;
    std::uint64_t spaces = 0;
    std::uint64_t zeros = 0;
    std::array<std::optional<errc>, profiles.size()>
        refusals{};  ///< by profile; none: the file is accepted
    std::vector<std::string>
        tensors{};  ///< if not empty: the names of an accepted file, by their bytes
    std::vector<std::pair<std::string, std::string>>
        metadata{};  ///< if not empty: those of an accepted file, in the file's order

    std::uint64_t file_bytes() const { return head.size() + spaces + zeros; }
    /// Too large to be written or read without being asked to.
    bool is_large() const { return spaces + zeros > 1'000'000; }
    const std::optional<errc>& refusal(profile which) const {
        return refusals[static_cast<std::size_t>(which)];
    }

    // What differs from the verdict that the case was added with.
    header_case& with(profile which, std::optional<errc> refusal) {
        refusals[static_cast<std::size_t>(which)] = refusal;
        return *this;
    }
    header_case& strict(errc code) { return with(profile::strict, code); }
    header_case& strict_accepts() { return with(profile::strict, {}); }
    header_case& reference(errc code) { return with(profile::reference, code); }
    header_case& reference_accepts() { return with(profile::reference, {}); }
    header_case& lenient(errc code) { return with(profile::lenient, code); }
    header_case& lenient_accepts() { return with(profile::lenient, {}); }
    header_case& holds(std::vector<std::string> names) {
        tensors = std::move(names);
        return *this;
    }
    header_case& holds_metadata(std::vector<std::pair<std::string, std::string>> pairs) {
        metadata = std::move(pairs);
        return *this;
    }
};

/// One checkpoint and how it is judged: its files, by their path in the case's own directory, of
/// which `checkpoint` is what is opened. A reader that leaves that directory finds what it looks
/// for.
struct index_case {
    std::string name;
    std::string reason;
    std::map<std::string, std::string> files;
    std::optional<errc> refusal;
    std::map<std::string, std::string>
        tensors;  ///< of an accepted one: the name of every visible tensor and of its file
};

/// Where an index_case has its index.
inline constexpr std::string_view index_path = "checkpoint/model.safetensors.index.json";

/// Every case for single files, in the order of the topics.
std::vector<header_case> header_cases();

/// Every case for checkpoints: the texts of indexes, then directories.
std::vector<index_case> index_cases();

}  // namespace conformance

#endif
