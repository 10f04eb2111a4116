// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the state file, which locks a directory while a checkpoint is written to it.
#ifndef SAFEFUSE_WRITE_DETAIL_DIRECTORY_CLAIM_HPP
#define SAFEFUSE_WRITE_DETAIL_DIRECTORY_CLAIM_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/fingerprint.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Claim of one writer on a directory: the state file, locked while this object lives. Its text
/// says what is being written.
class directory_claim {
public:
    directory_claim() noexcept = default;
    directory_claim(directory_claim&& other) noexcept
        : file_{std::move(other.file_)}, path_{std::move(other.path_)} {}
    directory_claim& operator=(directory_claim&& other) noexcept {
        file_ = std::move(other.file_);
        path_ = std::move(other.path_);
        return *this;
    }

    /// Locks the state file. Creates it only if `make` is true.
    ///   fails   in_use, file_not_found (missing and not created), not_a_file (it is a link),
    ///           permission_denied, io_error
    static result<directory_claim> take(std::string_view directory, bool make) noexcept {
        directory_claim taken;
        taken.path_ = join_path(directory, writer_state_file);
        if (taken.path_.empty()) return failure{.code = errc::out_of_memory, .file = directory};
        os::handle file = os::no_handle;
        if (const auto came = os::lock_file(taken.path_.c_str(), make, file); !came)
            return came.about(directory);
        taken.file_ = open_handle{file};
        return taken;
    }

    /// First line of the state file, cut at 256 bytes.
    [[nodiscard]] result<text> read() const noexcept {
        char characters[256];
        std::size_t read_bytes = 0;
        if (const auto came = os::read_at(
                file_.get(), 0, {reinterpret_cast<std::byte*>(characters), sizeof characters},
                read_bytes);
            !came)
            return came.about(path_);
        const std::string_view all = detail::characters_at(characters, read_bytes);
        const std::size_t end = all.find('\n');
        return text{end == std::string_view::npos ? all : all.substr(0, end + 1)};
    }
    /// Replaces the text of the file. A run killed meanwhile leaves the new first line or an
    /// unknown one. A longer text of another version is cut off.
    result<void> write(std::string_view state, durability wait) noexcept {
        if (auto fits = check_file_size_limit(path_, state.size()); !fits) return fits;
        auto came = os::write_at(file_.get(), 0,
                                 {reinterpret_cast<const std::byte*>(state.data()), state.size()});
        if (came) came = os::set_size(file_.get(), state.size());
        if (came && wait == durability::synced) came = os::sync_file(file_.get());
        if (came && wait == durability::synced)
            came = os::sync_directory(text{directory_of(path_)}.c_str());
        if (!came) return came.about(path_);
        return {};
    }
    void remove() noexcept {
        if (file_.is_open()) os::remove_locked(file_.give(), path_.c_str());
    }
    [[nodiscard]] bool holds() const noexcept { return file_.is_open(); }
    /// Call this after the directory got another path.
    [[nodiscard]] bool moved_to(std::string_view directory) noexcept {
        text path = join_path(directory, writer_state_file);
        if (path.empty()) return false;
        path_ = std::move(path);
        return true;
    }

private:
    open_handle file_;
    text path_;
};

/// What the state file of a directory says while a checkpoint is written there: `whole` stands for
/// everything that the files depend on. Empty when memory ran out.
[[nodiscard]] inline text writing_state(const fingerprint& whole) noexcept {
    text state{"safefuse is writing a checkpoint here, or was: "};
    char digits[32];
    for (std::size_t i = 0; i < 32; ++i)
        digits[i] =
            "0123456789abcdef"[(i < 16 ? whole.high : whole.low) >> (60 - 4 * (i % 16)) & 15];
    return state.append(characters_at(digits, sizeof digits)) && state.append("\n")
               ? std::move(state)
               : text{};
}

/// Makes the directory of a checkpoint where there is none, and says if something else is there.
///   fails   not_a_directory, and as make_directory
[[nodiscard]] inline result<void> make_destination(std::string_view directory,
                                                   durability wait) noexcept {
    const auto made = make_directory(directory);
    if (!made && made.error().code != errc::already_exists) return failure{made.error()};
    if (made && wait == durability::synced) {
        std::string_view path = directory;
        while (path.size() > 1 && os::is_separator(path.back())) path.remove_suffix(1);
        if (auto synced = sync_directory(directory_of(path)); !synced) return synced;
    }
    auto kind = kind_of_path(directory);
    if (!kind) return std::move(kind).error();
    if (*kind != os::path_kind::directory)
        return failure{.code = errc::not_a_directory, .file = directory};
    return {};
}

/// How the state file of a directory begins whose files are being replaced by those of a complete
/// checkpoint.
inline constexpr std::string_view replacing_state = "safefuse is replacing the checkpoint here";

/// A claim on the directory of a checkpoint.
struct started_claim {
    directory_claim claim;
    bool has_begun = false;  ///< a killed run of the same checkpoint left files there
};

/// Claims a directory to write the checkpoint that `state` identifies, or to resume it.
/// `check_vacant(own_allowed)` fails if the directory contains something else; if own_allowed, the
/// files of this checkpoint may be there.
///   fails   in_use, destination_not_empty, another_rewrite, as check_vacant, and as
///           directory_claim
template <class CheckVacant>
[[nodiscard]] result<started_claim> claim_destination(std::string_view directory,
                                                      std::string_view state, bool resume,
                                                      const CheckVacant& check_vacant) noexcept {
    auto claim = directory_claim::take(directory, false);
    if (!claim && claim.error().code == errc::file_not_found) {
        // Nothing is created in a directory that contains something else.
        if (auto vacant = check_vacant(false); !vacant) return std::move(vacant).error();
        claim = directory_claim::take(directory, true);
    }
    if (!claim) return std::move(claim).error();
    auto found = claim->read();
    if (!found) return std::move(found).error();
    if (found->view().starts_with(replacing_state))
        return failure{.code = errc::destination_not_empty,
                       .file = directory,
                       .detail = "an unfinished replacement is there; resume it"};
    // a killed run may have left the state file empty: nothing was written then
    const bool has_begun = found->size() == state.size() && found->view().ends_with("\n");
    if (has_begun && !resume)
        return failure{.code = errc::destination_not_empty,
                       .file = directory,
                       .detail = "an unfinished checkpoint is there; resume it, or remove it"};
    if (has_begun && found->view() != state)
        return failure{.code = errc::another_rewrite,
                       .file = directory,
                       .detail = "finish that run, or remove its files"};
    if (auto vacant = check_vacant(has_begun); !vacant) {
        if (found->size() == 0) claim->remove();
        return std::move(vacant).error();
    }
    return started_claim{std::move(*claim), has_begun};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
