// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writes a checkpoint to a directory that already has one. The new checkpoint is written
// to a staging directory and takes the old one's place when it is complete. At any moment the
// directory contains the old checkpoint, a resumable state, or the new checkpoint.
//
//     PARENT/.OUT.safefuse-new/      staging directory, exchanged with OUT in one step
//     OUT/.safefuse-new/             staging directory if OUT is a mount point or its parent is not
//                                    writable; its files are renamed into OUT one by one
//     OUT/.safefuse-writing          lock and state of a replacement; a killed run is rolled
//                                    forward from it
#ifndef SAFEFUSE_WRITE_REPLACE_HPP
#define SAFEFUSE_WRITE_REPLACE_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/checkpoint_writer.hpp>
#include <safefuse/write/detail/destination_names.hpp>
#include <safefuse/write/detail/directory_claim.hpp>
#include <safefuse/write/detail/source_files.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What to do if the destination already contains a checkpoint.
enum class existing : std::uint8_t {
    refuse,   ///< keep it and fail with destination_not_empty
    replace,  ///< keep it until the new one is complete, then replace it
};

/// Options for opening a destination.
struct destination_options {
    /// What to do if a checkpoint is there.
    existing what = existing::refuse;
    /// Resume what a killed run has left, a replacement included.
    bool resume = false;
    /// What commit() waits for.
    durability wait = durability::synced;
};

/// Ending of the names of staging directories.
inline constexpr std::string_view staging_ending = ".safefuse-new";

/// The directory to write a checkpoint to. It is the requested directory or, if a checkpoint there
/// is to be replaced, a staging directory that takes its place in commit().
///
///     auto destination = checkpoint_destination::open(path, set, {.what = existing::replace});
///     ... rewrite(plan, destination->directory(), {.resume = destination->resumes(),
///                                                  .keep_state = destination->is_staged()}) ...
///     ... write config.json and the like to destination->directory() ...
///     destination->commit();
///
/// What commit() does to the old directory: its tensor files and shard indexes are removed, files
/// that the new checkpoint has too are replaced, and every other file and directory stays where it
/// is. If there is nothing else, both directories change their names at once; otherwise, and if
/// that cannot be done (a mount point, another file system, a parent that may not be written to,
/// Windows), the new files are renamed into the directory one by one, the index first. A run that
/// is killed meanwhile is completed by the next one that resumes or replaces; until then the
/// directory loads as no checkpoint.
///
/// The directory is locked from open() to commit(). The lock is taken before anything is changed.
/// To give up a killed run, remove the directory named `.OUT.safefuse-new`. The old checkpoint is
/// then unchanged, unless the state file says that files are being replaced.
///   lifetime  the tensor set must stay at its address
class checkpoint_destination {
public:
    /// After the move the other destination owns nothing: it completes and removes nothing.
    checkpoint_destination(checkpoint_destination&&) noexcept = default;
    /// First treats this destination's own files as the destructor does.
    checkpoint_destination& operator=(checkpoint_destination&& other) noexcept {
        if (this != &other) {
            this->~checkpoint_destination();
            new (this) checkpoint_destination{std::move(other)};
        }
        return *this;
    }
    /// Without a commit() the old checkpoint stays unchanged. Complete new shards stay in the
    /// staging directory and can be resumed. If there are none, the staging directory is removed.
    ~checkpoint_destination() { abandon(); }

    /// Finds the directory to write to. If a checkpoint is to be replaced, locks its directory and
    /// completes a replacement that a killed run had begun. A symbolic link to a directory stands
    /// for that directory.
    ///   fails   destination_in_source (the directory is the source, is inside it or contains it,
    ///           or a source file would be lost with it; links and mounts are followed), in_use,
    ///           not_a_directory, not_a_file (the state file is a link), file_not_found (the parent
    ///           or the files of a begun replacement are missing), already_exists (both names for
    ///           the staging directory are taken), permission_denied, disk_full, io_error,
    ///           out_of_memory
    static result<checkpoint_destination> open(std::string_view directory,
                                               tensor_set_ref sources SAFEFUSE_LIFETIMEBOUND,
                                               const destination_options& options = {}) noexcept {
        checkpoint_destination made{sources};
        if (auto opened = made.find(directory, options); !opened) return std::move(opened).error();
        return made;
    }

    /// Write the checkpoint and the files beside it to this directory.
    [[nodiscard]] std::string_view directory() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return written_;
    }
    /// Whether directory() is a staging directory. The writer must then keep its state file
    /// (write_options::keep_state), so that a run killed before commit() can be resumed.
    [[nodiscard]] bool is_staged() const noexcept { return claim_.holds(); }
    /// Whether the writer is to resume what is in directory().
    [[nodiscard]] bool resumes() const noexcept { return resumes_; }

    /// Puts the checkpoint in its place. Call it after everything is written. Does nothing if
    /// nothing is to be replaced.
    ///   fails   file_changed (a source was modified since open(); the old checkpoint stays),
    ///           in_use, destination_in_source (a source file has appeared there since),
    ///           permission_denied, disk_full, io_error, out_of_memory. After a failure either the
    ///           old checkpoint is there, or a run that resumes completes the new one
    result<void> commit() noexcept {
        if (!is_staged()) return {};
        if (auto same = detail::check_unchanged(sources_, states_.view()); !same) return same;
        // since open(), the path may have come to name another directory
        auto files = detail::source_files::of(sources_);
        if (!files) return std::move(files).error();
        if (auto survive = files->check_survive(sources_, real_); !survive) return survive;
        auto staged = detail::directory_claim::take(written_, true);
        if (!staged) return std::move(staged).error();
        if (auto removed = remove_temporaries(); !removed) return removed;
        if (auto restricted = restrict_permissions(); !restricted) return restricted;
        if (auto synced = sync(written_); !synced) return synced;
        auto can_be_exchanged = is_exchangeable();
        if (!can_be_exchanged) return std::move(can_be_exchanged).error();
        begun_to_replace_ = true;
        if (*can_be_exchanged) {
            if (auto told = claim_.write(detail::replaced_state, wait_); !told) return told;
            if (detail::os::exchange_directories(written_.c_str(), real_.c_str())) {
                if (!staged->moved_to(real_))
                    return failure{.code = errc::out_of_memory, .file = real_};
                if (auto synced = sync(detail::directory_of(real_)); !synced) return synced;
                if (auto removed = remove_replaced(written_); !removed) return removed;
                claim_ = detail::directory_claim{};
                staged->remove();
                return sync(real_);
            }
        }
        if (auto told = claim_.write(step_text('1', is_beside_), wait_); !told) return told;
        if (auto moved = move_files(written_, *staged, '1', is_beside_); !moved) return moved;
        staged->remove();
        return sync(real_);
    }

private:
    explicit checkpoint_destination(tensor_set_ref sources) noexcept : sources_{sources} {}

    // States and names

    /// The state file's line while files are renamed into its directory. In step 1 old files are
    /// removed. In step 2 new files are renamed, so files found there are new.
    static text step_text(char step, bool beside) noexcept {
        text line{detail::replacing_state};
        const char digit[] = {step};
        const bool whole = line.append(": step ") && line.append(detail::characters_at(digit, 1)) &&
                           line.append(beside ? " from beside it\n" : " from inside it\n");
        return whole ? std::move(line) : text{};
    }

    /// Whether a directory is a staging directory of this header: no link, and with a state file.
    static bool is_begun(std::string_view place) noexcept {
        const auto entry = place.empty() ? result<detail::os::entry_facts>{failure{}}
                                         : detail::entry_of_path(place, false);
        return entry && !entry->is_link && entry->kind == detail::os::path_kind::directory &&
               has_entry(place, writer_state_file);
    }
    static bool has_entry(std::string_view directory, std::string_view name) noexcept {
        const text path = detail::join_path(directory, name);
        return !path.empty() && detail::entry_of_path(path, false).has_value();
    }

    /// Whether a directory contains files of a checkpoint, finished or not.
    static result<bool> is_occupied(std::string_view directory) noexcept {
        bool occupied = false;
        auto listed = detail::list_directory(
            directory, [&](std::string_view name, bool is_directory) noexcept {
                occupied = name == writer_state_file ||
                           (!is_directory && detail::is_checkpoint_name(name));
                return !occupied;
            });
        if (!listed) return std::move(listed).error();
        return occupied;
    }

    result<void> sync(std::string_view directory) const noexcept {
        return wait_ == durability::synced ? detail::sync_directory(directory) : result<void>{};
    }

    // Opening

    result<void> find(std::string_view directory, const destination_options& options) noexcept {
        const failure no_memory{.code = errc::out_of_memory, .file = directory};
        wait_ = options.wait;
        resumes_ = options.resume;
        written_ = directory;
        if (written_.size() != directory.size()) return no_memory;
        if (auto apart = detail::check_apart(sources_, directory); !apart) return apart;
        auto states = detail::states_of_sources(sources_);
        if (!states) return std::move(states).error();
        states_ = std::move(*states);
        const auto kind = detail::kind_of_path(directory);
        if (!kind && kind.error().code != errc::file_not_found) return failure{kind.error()};
        if (kind && *kind != detail::os::path_kind::directory)
            return failure{.code = errc::not_a_directory, .file = directory};
        const bool replaces = options.what == existing::replace;
        if (!replaces && !options.resume) return {};

        auto real = detail::future_path(directory);
        if (!real) return std::move(real).error();
        real_ = std::move(*real);
        if (!name_places()) return no_memory;
        const bool is_left = is_begun(beside_) || is_begun(inside_);
        if (!kind && !is_left) return {};
        if (kind && !is_left) {
            auto occupied =
                replaces ? is_occupied(real_) : result<bool>{has_entry(real_, writer_state_file)};
            if (!occupied) return std::move(occupied).error();
            if (!*occupied) return {};
        }
        return take_directory(directory, static_cast<bool>(kind), replaces);
    }

    /// Locks real_, creating it if needed, and finds the directory to write to. Failures name it as
    /// `directory`.
    result<void> take_directory(std::string_view directory, bool is_there, bool replaces) noexcept {
        auto files = detail::source_files::of(sources_);
        if (!files) return std::move(files).error();
        if (!is_there) {
            if (auto made = detail::make_directory(real_); !made) return made;
            if (auto synced = sync(detail::directory_of(real_)); !synced) return synced;
        }
        if (auto claimed = claim(*files); !claimed) {
            claimed.error().file = directory;
            return claimed;
        }
        auto opened = recover(replaces);
        if (!opened || !claim_.holds()) return opened;
        if (auto place = choose_place(replaces); !place) {
            leave();
            return place;
        }
        return {};
    }

    /// Locks the destination after a check that no source file would be lost with it.
    result<void> claim(const detail::source_files& files) noexcept {
        for (const text* place : {&real_, &beside_, &inside_}) {
            if (place != &real_ && !is_begun(*place)) continue;
            if (auto survive = files.check_survive(sources_, *place); !survive) return survive;
        }
        auto taken = detail::directory_claim::take(real_, true);
        if (!taken) return std::move(taken).error();
        claim_ = std::move(*taken);
        return {};
    }

    bool name_places() noexcept {
        inside_ = detail::join_path(real_, staging_ending);
        const std::string_view name = detail::file_name_of(real_);
        text hidden{"."};
        if (inside_.empty()) return false;
        if (name.empty()) return true;  // the root directory has no parent
        if (!hidden.append(name) || !hidden.append(staging_ending)) return false;
        beside_ = detail::join_path(detail::directory_of(real_), hidden);
        return !beside_.empty();
    }

    /// Completes what a killed run had begun. Releases the claim if the directory itself is to be
    /// written to.
    result<void> recover(bool replaces) noexcept {
        auto state = claim_.read();
        if (!state) return std::move(state).error();
        // an unfinished run that is not a replacement keeps its state file until the run is
        // replaced
        removes_state_ = state->empty() || *state == detail::replaced_state;
        if (is_begun(beside_)) {
            auto other = detail::directory_claim::take(beside_, false);
            if (!other) return std::move(other).error();
            auto other_state = other->read();
            if (!other_state) return std::move(other_state).error();
            if (*other_state == detail::replaced_state) {  // it is the old checkpoint
                other = detail::directory_claim{};
                if (auto removed = remove_replaced(beside_); !removed) return removed;
                // the new checkpoint's state file is still there: the writer reads it again
                if (!replaces) claim_ = detail::directory_claim{};
                return {};
            }
        }
        if (state->view().starts_with(detail::replacing_state)) {
            const bool beside = *state == step_text('1', true) || *state == step_text('2', true);
            const std::string_view place = beside ? beside_.view() : inside_.view();
            const char step = *state == step_text('1', beside) ? '1' : '2';
            if (!is_begun(place))
                return failure{.code = errc::file_not_found,
                               .file = place,
                               .detail = "it contained the files of an unfinished replacement"};
            auto staged = detail::directory_claim::take(place, true);
            if (!staged) return std::move(staged).error();
            if (auto moved = move_files(place, *staged, step, beside); !moved) return moved;
            if (!replaces) return {};  // as after an exchange
            claim_ = std::move(*staged);
            removes_state_ = true;
            return {};
        }
        if (!replaces && !is_begun(beside_) && !is_begun(inside_)) {
            // nothing is to be replaced; a run that was killed as its last step leaves these
            // directories empty
            for (const text* place : {&beside_, &inside_}) (void)detail::remove_directory(*place);
            leave();
        }
        return {};
    }

    result<void> choose_place(bool replaces) noexcept {
        if (!replaces) {
            is_beside_ = is_begun(beside_);
            return use(is_beside_ ? beside_ : inside_);
        }
        resumes_ = false;
        for (const text* place : {&beside_, &inside_})
            if (auto gone = discard(*place); !gone) return gone;
        const auto old = detail::entry_of_path(real_, true);
        if (!old) return failure{old.error()};
        const std::uint32_t permissions = (old->permissions & 0777u) | 0700u;
        if (detail::os::can_exchange && !beside_.empty() &&
            detail::make_directory(beside_, permissions)) {
            // a test rename shows whether a mount point is between the two
            const bool is_near =
                static_cast<bool>(detail::os::rename_over(beside_.c_str(), inside_.c_str()));
            if (is_near && detail::os::rename_over(inside_.c_str(), beside_.c_str())) {
                is_beside_ = true;
                if (auto synced = sync(detail::directory_of(beside_)); !synced) return synced;
                return use(beside_);
            }
            (void)detail::remove_directory(is_near ? inside_ : beside_);
        }
        if (auto made = detail::make_directory(inside_, permissions); !made) return made;
        if (auto synced = sync(real_); !synced) return synced;
        return use(inside_);
    }

    result<void> use(const text& place) noexcept {
        written_ = place;
        if (written_.size() != place.size())
            return failure{.code = errc::out_of_memory, .file = place};
        is_placed_ = true;
        return {};
    }

    /// Removes the files of an abandoned run. A directory without a state file does not come from a
    /// run and stays.
    static result<void> discard(std::string_view place) noexcept {
        if (place.empty()) return {};
        if (!is_begun(place)) {
            (void)detail::remove_directory(place);  // if it is empty
            return {};
        }
        auto claim = detail::directory_claim::take(place, false);
        if (!claim) return std::move(claim).error();
        bool has_directories = false;
        auto names = detail::names_in(place, has_directories);
        if (!names) return std::move(names).error();
        for (const text& name : *names)
            if (!(name == writer_state_file))
                if (auto removed = detail::remove_file(detail::join_path(place, name)); !removed)
                    return removed;
        claim->remove();
        return detail::remove_directory(place);
    }

    void leave() noexcept {
        if (removes_state_ && !begun_to_replace_)
            claim_.remove();
        else
            claim_ = detail::directory_claim{};
    }

    void abandon() noexcept {
        if (!claim_.holds()) return;
        if (!begun_to_replace_ && is_placed_) {
            bool has_directories = false, has_shards = true;
            if (const auto names = detail::names_in(written_, has_directories)) {
                has_shards = false;
                for (const text& name : *names)
                    has_shards = has_shards || detail::is_tensor_name(name);
            }
            if (!has_shards) (void)discard_all(written_);
        }
        leave();
    }
    /// Like discard, but also removes the directory of a run that was killed before it made its
    /// state file.
    static result<void> discard_all(std::string_view place) noexcept {
        if (!is_begun(place)) {
            bool has_directories = false;
            auto names = detail::names_in(place, has_directories);
            if (!names) return std::move(names).error();
            for (const text& name : *names)
                (void)detail::remove_file(detail::join_path(place, name));
        }
        return discard(place);
    }

    // Replacing

    /// Removes half-written files of killed runs, so that they do not enter the new checkpoint.
    result<void> remove_temporaries() const noexcept {
        bool has_directories = false;
        auto names = detail::names_in(written_, has_directories);
        if (!names) return std::move(names).error();
        for (const text& name : *names)
            if (detail::is_temporary(name))
                if (auto removed = detail::remove_file(detail::join_path(written_, name)); !removed)
                    return removed;
        return {};
    }

    /// Restricts the permissions of new files. A new file grants other users no more than the old
    /// file of that name did; a tensor file grants no more than every old tensor file did.
    result<void> restrict_permissions() const noexcept {
        bool has_directories = false;
        auto old_names = detail::names_in(real_, has_directories);
        if (!old_names) return std::move(old_names).error();
        std::uint32_t of_tensors = 07777;
        for (const text& name : *old_names) {
            if (!detail::is_tensor_name(name)) continue;
            const auto entry = detail::entry_of_path(detail::join_path(real_, name), true);
            if (entry && entry->kind == detail::os::path_kind::file)
                of_tensors &= entry->permissions | 07700u;
        }
        auto names = detail::names_in(written_, has_directories);
        if (!names) return std::move(names).error();
        for (const text& name : *names) {
            const text path = detail::join_path(written_, name);
            const auto entry = detail::entry_of_path(path, false);
            if (!entry) return failure{entry.error()};
            // a file with several hard links may be a file of the source
            if (entry->is_link || entry->kind != detail::os::path_kind::file ||
                entry->link_count > 1)
                continue;
            std::uint32_t permissions = entry->permissions;
            if (detail::is_tensor_name(name) || detail::is_index_name(name))
                permissions &= of_tensors;
            const auto old = detail::entry_of_path(detail::join_path(real_, name), true);
            if (old && old->kind == detail::os::path_kind::file)
                permissions &= old->permissions | 07700u;
            if (permissions == entry->permissions) continue;
            if (const auto came = detail::os::set_permissions(path.c_str(), permissions); !came)
                return came.about(path);
        }
        return {};
    }

    /// Whether the two directories can be exchanged: nothing but replaced files would stay in the
    /// old one, and the new one can get its owner and permissions.
    [[nodiscard]] result<bool> is_exchangeable() const noexcept {
        if (!detail::os::can_exchange || !is_beside_) return false;
        bool has_directories = false;
        auto names = detail::names_in(real_, has_directories);
        if (!names) return std::move(names).error();
        if (has_directories) return false;
        for (const text& name : *names)
            if (!(name == writer_state_file) && !detail::is_checkpoint_name(name) &&
                !has_entry(written_, name))
                return false;
        return static_cast<bool>(detail::os::copy_ownership(real_.c_str(), written_.c_str()));
    }

    /// Removes the old directory after the exchange. Files that appeared in it at the last moment
    /// move to the new one.
    result<void> remove_replaced(std::string_view place) const noexcept {
        bool has_directories = false;
        auto names = detail::names_in(place, has_directories);
        if (!names) return std::move(names).error();
        // indexes first, so that the remaining files do not look like a checkpoint
        for (const bool indexes : {true, false})
            for (const text& name : *names) {
                if (name == writer_state_file || detail::is_index_name(name) != indexes) continue;
                const text path = detail::join_path(place, name);
                const bool is_replaced = detail::is_checkpoint_name(name) || has_entry(real_, name);
                auto done = is_replaced ? detail::remove_file(path)
                                        : detail::rename_file(path, detail::join_path(real_, name));
                if (!done) return done;
            }
        if (auto synced = sync(real_); !synced) return synced;
        // the state file is removed last, because it identifies the directory
        if (auto removed = detail::remove_file(detail::join_path(place, writer_state_file));
            !removed)
            return removed;
        return detail::remove_directory(place);
    }

    /// Removes the old tensor files. Then renames the new files into the directory, the index first
    /// and the state file of `staged` last. Can be repeated after a kill at any point.
    result<void> move_files(std::string_view place, detail::directory_claim& staged, char step,
                            bool beside) noexcept {
        bool has_directories = false;
        begun_to_replace_ = true;
        if (step == '1') {
            auto old_names = detail::names_in(real_, has_directories);
            if (!old_names) return std::move(old_names).error();
            // the old index is removed last: an index without its shards does not load as a
            // checkpoint
            for (const bool indexes : {false, true})
                for (const text& name : *old_names)
                    if (detail::is_checkpoint_name(name) && detail::is_index_name(name) == indexes)
                        if (auto removed = detail::remove_file(detail::join_path(real_, name));
                            !removed)
                            return removed;
            if (auto synced = sync(real_); !synced) return synced;
            if (auto told = claim_.write(step_text('2', beside), wait_); !told) return told;
        }
        auto names = detail::names_in(place, has_directories);
        if (!names) return std::move(names).error();
        for (const bool indexes : {true, false})  // the new index comes first
            for (const text& name : *names) {
                if (name == writer_state_file || detail::is_index_name(name) != indexes) continue;
                auto moved = detail::rename_file(detail::join_path(place, name),
                                                 detail::join_path(real_, name));
                if (!moved) return moved;
            }
        if (auto synced = sync(real_); !synced) return synced;
        const text from = detail::join_path(place, writer_state_file),
                   to = detail::join_path(real_, writer_state_file);
        if (!detail::os::replaces_open_files) {
            staged = detail::directory_claim{};
            claim_ = detail::directory_claim{};
        }
        if (auto moved = detail::rename_file(from, to); !moved) return moved;
        claim_ = detail::directory_claim{};
        if (!detail::os::replaces_open_files) {
            auto again = detail::directory_claim::take(real_, false);
            if (!again) return std::move(again).error();
            staged = std::move(*again);
        } else if (!staged.moved_to(real_)) {
            return failure{.code = errc::out_of_memory, .file = real_};
        }
        begun_to_replace_ = false;
        return detail::remove_directory(place);
    }

    tensor_set_ref sources_;
    vector<detail::source_state> states_;
    durability wait_ = durability::synced;
    bool resumes_ = false;
    bool is_placed_ = false;         // written_ is beside_ or inside_
    bool is_beside_ = false;         // which of the two
    bool removes_state_ = false;     // remove the directory's state file if nothing is committed
    bool begun_to_replace_ = false;  // from here on, only roll forward
    text written_;
    text real_;    // the requested directory, with links resolved
    text beside_;  // the two possible staging directories
    text inside_;
    detail::directory_claim claim_;  // lock of the requested directory
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
