// The data types of the conformance suite. The cases are in header_cases.cpp (single files) and
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

/// How strictly a file is checked.
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

/// One tensor file and its expected verdicts. The file is `head`, then `spaces` spaces, then
/// `zeros` zeros. So a file that is too large to store can still be described.
struct header_case {
    std::string name;
    std::string topic;
    std::string reason;
    std::string head;
    std::uint64_t spaces = 0;
    std::uint64_t zeros = 0;
    /// by profile; none: the file is accepted
    std::array<std::optional<errc>, profiles.size()> refusals{};
    /// if not empty: the tensor names of an accepted file, in the order of their bytes
    std::vector<std::string> tensors{};
    /// if not empty: the metadata of an accepted file, in the file's order
    std::vector<std::pair<std::string, std::string>> metadata{};

    std::uint64_t file_bytes() const { return head.size() + spaces + zeros; }
    /// Whether the file is too large to write or read by default.
    bool is_large() const { return spaces + zeros > 1'000'000; }
    const std::optional<errc>& refusal(profile which) const {
        return refusals[static_cast<std::size_t>(which)];
    }

    // Changes the verdict of one profile.
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

/// One checkpoint and its expected verdict. Its files are given by their paths in the case's own
/// directory; `checkpoint` is the path to open. A reader that wrongly leaves that directory finds
/// the files that it looks for.
struct index_case {
    std::string name;
    std::string reason;
    std::map<std::string, std::string> files;
    std::optional<errc> refusal;
    /// if accepted: the name of every visible tensor and of its file
    std::map<std::string, std::string> tensors;
};

/// The path of the index in an index_case.
inline constexpr std::string_view index_path = "checkpoint/model.safetensors.index.json";

/// Every case for single files, in the order of the topics.
std::vector<header_case> header_cases();

/// Every case for checkpoints: the texts of indexes, then directories.
std::vector<index_case> index_cases();

}  // namespace conformance

#endif
