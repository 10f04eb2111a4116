// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a tensor file: its header, and access to the bytes of its tensors.
#ifndef SAFEFUSE_READ_TENSOR_FILE_HPP
#define SAFEFUSE_READ_TENSOR_FILE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/read/any_source.hpp>
#include <safefuse/read/detail/gather_runs.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/slice.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// The data of a tensor file. It is allocated separately, so its address stays the same when the
/// file is moved.
template <class Source>
struct file_parts {
    Source source;
    text name;
    vector<std::byte> header_bytes;  // used if the source is not in memory
    safefuse::header header;
};

}  // namespace detail

/// The tensors of a file as a tensor set that stays valid when the file is moved. Plans store one.
///   lifetime  until the content of the file is destroyed; it may be moved to another file object
template <class Source>
class tensor_file_view {
public:
    /// @{
    /// Like the members of these names in the file.
    [[nodiscard]] std::size_t size() const noexcept {
        return parts_ == nullptr ? 0 : parts_->header.size();
    }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return parts_->header[i]; }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        const tensor_entry entry = parts_->header[i];
        return {0, parts_->header.header_bytes() + entry.begin, entry.size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t) const noexcept {
        return parts_->name;
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t) const noexcept {
        return parts_->source.bytes();
    }
    result<void> read(std::uint32_t, std::uint64_t offset, span<std::byte> out) const noexcept {
        auto done = parts_->source.read(offset, out);
        if (!done && done.error().file.empty()) done.error().file = parts_->name;
        return done;
    }
    void advise(std::uint32_t, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        parts_->source.advise(offset, size_bytes, hint);
    }
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t) const noexcept {
        if constexpr (requires(const Source& file) { file.native_handle(); })
            return parts_->source.native_handle();
        else
            return no_native_handle;
    }
    [[nodiscard]] result<void> check(std::uint32_t) const noexcept {
        if constexpr (requires(const Source& file) { file.check_size(); })
            return parts_->source.check_size();
        else
            return {};
    }
    /// @}

private:
    template <class>
    friend class basic_tensor_file;
    explicit tensor_file_view(const detail::file_parts<Source>* parts) noexcept : parts_{parts} {}

    const detail::file_parts<Source>* parts_;  // null: the file was moved from
};

/// A tensor file whose header has been read and checked. Tensors are numbered in the order of their
/// bytes. It is a tensor_set with one source, the file, whose number is 0.
///   lifetime  views, names and plans are valid until the file is destroyed; a move keeps them
///           valid. A moved-from file has no tensors; its source() and header() must not be called
template <class Source>
class basic_tensor_file {
public:
    static_assert(byte_source<Source>,
                  "safefuse: the source of a tensor file is not a byte_source");

    /// Returned by a search if there is no such tensor.
    static constexpr std::size_t npos = safefuse::header::npos;
    /// Views of a temporary file do not compile.
    static constexpr bool lends_views = true;

    /// Opens a file and checks its header. It reads no tensor bytes.
    ///   fails   as Source::open and header::parse; the failure names the file
    static result<basic_tensor_file> open(std::string_view path,
                                          const read_options& options = {}) noexcept
        requires file_source<Source>
    {
        auto source = Source::open(path);
        if (!source) {
            if (source.error().file.empty()) source.error().file = path;
            return std::move(source).error();
        }
        return from(std::move(*source), path, options);
    }

    /// Makes a tensor file from any source, such as a memory_source, and checks its header.
    /// Messages use `name` as the path, and a shard index as the file's name.
    ///   fails   as header::parse and Source::read; out_of_memory; read_past_end (the source lends
    ///           fewer bytes than its size)
    static result<basic_tensor_file> from(Source source, std::string_view name,
                                          const read_options& options = {}) noexcept {
        basic_tensor_file made;
        if (!made.take({std::move(source), name, {}, {}}) || made.at().name.lacks_memory())
            return detail::lack_of_memory_for{name};
        parts& to = made.parts_[0];
        span<const std::byte> start = to.source.bytes();
        if (start.empty()) {
            if (auto done = made.read_header(options); !done)
                return made.explain(std::move(done).error());
            start = to.header_bytes.view();
        } else if (start.size() < to.source.size_bytes()) {
            return made.about({.code = errc::read_past_end,
                               .detail = "the source lends fewer bytes than it says it has",
                               .expected = to.source.size_bytes(),
                               .actual = start.size()});
        }
        auto parsed = safefuse::header::parse(start, to.source.size_bytes(), options);
        if (!parsed) return made.explain(std::move(parsed).error());
        to.header = std::move(*parsed);
        return made;
    }

    /// Makes an any_tensor_file from a file of any other source. Nothing is read again.
    ///   lifetime  names and views of the file stay valid
    ///   fails   out_of_memory; the file is then destroyed
    template <class Other>
        requires(std::same_as<Source, any_source> && !std::same_as<Other, any_source>)
    static result<basic_tensor_file> from(basic_tensor_file<Other>&& file) noexcept {
        auto& other = file.parts_[0];
        auto source = any_source::of(std::move(other.source));
        if (!source) {
            source.error().file = other.name;
            return std::move(source).error();
        }
        basic_tensor_file made;
        if (!made.take({std::move(*source), std::move(other.name), std::move(other.header_bytes),
                        std::move(other.header)}))
            return detail::lack_of_memory{};
        file.parts_.clear();
        return made;
    }

    /// Closes the file's handle if the source has one. The source opens it again when needed.
    void close_handle() noexcept {
        if constexpr (requires(Source& source) { source.close_handle(); })
            parts_[0].source.close_handle();
    }

    /// The path that it was opened with, or the name given to from().
    [[nodiscard]] std::string_view path() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return parts_.empty() ? std::string_view{} : at().name.view();
    }
    /// The bytes of the whole file.
    [[nodiscard]] const Source& source() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return at().source;
    }
    /// The checked table of its tensors.
    [[nodiscard]] const safefuse::header& header() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return at().header;
    }

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return stable_view().size(); }
    /// Tensor i, in the order of the bytes.
    [[nodiscard]] tensor_entry operator[](std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return at().header[i];
    }
    /// The index of the tensor with this name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        return parts_.empty() ? npos : at().header.find(name);
    }
    /// The offset of tensor i in bytes from the start of the file.
    [[nodiscard]] std::uint64_t offset_bytes(std::size_t i) const noexcept {
        return at().header.header_bytes() + at().header[i].begin;
    }

    /// The tensor set that plans store in place of the file. It stays valid when the file is moved.
    ///   lifetime  until the content of the file is destroyed; it may be moved to another file
    [[nodiscard]] tensor_file_view<Source> stable_view() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensor_file_view<Source>{parts_.begin()};
    }
    /// @{
    /// Required by tensor_set. The only source has number 0.
    ///   lifetime  of spec, source_name and source_bytes: until the file is destroyed
    ///   fails   read: as Source::read; check: file_changed (the file has another size than when it
    ///           was opened), io_error
    [[nodiscard]] tensor_spec spec(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return at().header[i];
    }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return stable_view().place(i);
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return stable_view().source_name(source);
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return stable_view().source_bytes(source);
    }
    result<void> read(std::uint32_t source, std::uint64_t offset,
                      span<std::byte> out) const noexcept {
        return stable_view().read(source, offset, out);
    }
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        stable_view().advise(source, offset, size_bytes, hint);
    }
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        return stable_view().native_handle(source);
    }
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return stable_view().check(source);
    }
    /// @}

    /// A view of tensor i, without a copy.
    ///   fails   not_resident (the source must be read: read() copies the tensor), read_past_end
    ///           (the source lends fewer bytes than when the file was opened)
    [[nodiscard]] result<tensor_view> view(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        const tensor_entry entry = at().header[i];
        const span<const std::byte> bytes = at().source.bytes();
        if (bytes.empty())
            return about({.code = errc::not_resident, .detail = "read() copies them"}, entry.name);
        const std::uint64_t first = offset_bytes(i);
        // a view never extends past the end, whatever the header and the source say
        if (!detail::lies_inside(first, entry.size_bytes(), bytes.size()))
            return about({.code = errc::read_past_end,
                          .offset = first,
                          .expected = entry.size_bytes(),
                          .actual = bytes.size()},
                         entry.name);
        auto view = tensor_view::of(entry.type, entry.shape,
                                    bytes.subspan(static_cast<std::size_t>(first),
                                                  static_cast<std::size_t>(entry.size_bytes())));
        if (!view) return about(std::move(view).error(), entry.name);
        return view;
    }
    /// A view of the tensor with this name, without a copy.
    ///   fails   tensor_not_found, and as view
    [[nodiscard]] result<tensor_view> find(std::string_view name) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return view(i);
    }

    // Deleted: views of a temporary file would dangle.
    std::string_view path() const&& = delete;
    const Source& source() const&& = delete;
    const safefuse::header& header() const&& = delete;
    tensor_entry operator[](std::size_t) const&& = delete;
    tensor_file_view<Source> stable_view() const&& = delete;
    tensor_spec spec(std::size_t) const&& = delete;
    std::string_view source_name(std::uint32_t) const&& = delete;
    span<const std::byte> source_bytes(std::uint32_t) const&& = delete;
    result<tensor_view> view(std::size_t) const&& = delete;
    result<tensor_view> find(std::string_view) const&& = delete;

    /// Copies tensor i.
    ///   fails   wrong_buffer_size (`out` must have the tensor's size; it is then unchanged), and
    ///           as Source::read
    result<void> read(std::size_t i, span<std::byte> out) const noexcept {
        const tensor_entry entry = at().header[i];
        if (out.size() != entry.size_bytes())
            return about({.code = errc::wrong_buffer_size,
                          .expected = entry.size_bytes(),
                          .actual = out.size()},
                         entry.name);
        if (auto done = at().source.read(offset_bytes(i), out); !done)
            return about(std::move(done).error(), entry.name);
        return {};
    }
    /// Copies the tensor with this name.
    ///   fails   tensor_not_found, and as above
    result<void> read(std::string_view name, span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read(i, out);
    }

    /// The bytes of a slice of tensor i: the size for read_slice, and the runs for
    /// tensor_view::slice.
    ///   fails   as slice_runs::of
    [[nodiscard]] result<slice_runs> runs_of(std::size_t i,
                                             span<const axis_range> ranges) const noexcept {
        const tensor_entry entry = at().header[i];
        auto runs = slice_runs::of(entry.type, entry.shape, ranges);
        if (!runs) return about(std::move(runs).error(), entry.name);
        return runs;
    }
    /// The bytes of a slice of the tensor with this name.
    ///   fails   tensor_not_found, and as above
    [[nodiscard]] result<slice_runs> runs_of(std::string_view name,
                                             span<const axis_range> ranges) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return runs_of(i, ranges);
    }

    /// Copies a slice of tensor i. If the source is in memory, no other bytes are accessed.
    /// Otherwise runs with gaps of at most 4 KiB are read together, into a buffer of at most 1 MiB.
    /// So a column takes one read per MiB instead of one per row.
    ///   fails   as slice_runs::of; wrong_buffer_size (`out` must have the slice's size; it is then
    ///           unchanged); as Source::read
    result<void> read_slice(std::size_t i, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        const tensor_entry entry = at().header[i];
        const auto runs = runs_of(i, ranges);
        if (!runs) return runs.error();
        if (!stable_view().source_bytes(0).empty()) {
            const auto whole = view(i);
            if (!whole) return whole.error();
            if (auto done = whole->copy_slice(*runs, out); !done)
                return about(std::move(done).error(), entry.name);
            return {};
        }
        if (out.size() != runs->size_bytes())
            return about({.code = errc::wrong_buffer_size,
                          .expected = runs->size_bytes(),
                          .actual = out.size()},
                         entry.name);
        const std::uint64_t first = offset_bytes(i);
        auto done = detail::gather_runs(*runs, out,
                                        [&](std::uint64_t offset, span<std::byte> bytes) noexcept {
                                            return at().source.read(first + offset, bytes);
                                        });
        if (!done) return about(std::move(done).error(), entry.name);
        return {};
    }
    /// Copies a slice of the tensor with this name.
    ///   fails   tensor_not_found, and as above
    result<void> read_slice(std::string_view name, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read_slice(i, ranges, out);
    }

    /// Tells the system how the bytes of tensor i will be used.
    void advise(std::size_t i, advice hint) const noexcept {
        at().source.advise(offset_bytes(i), at().header[i].size_bytes(), hint);
    }
    /// Tells the system how the bytes of the tensor with this name will be used. Does nothing if
    /// there is no such tensor.
    void advise(std::string_view name, advice hint) const noexcept {
        if (const std::size_t i = index_of(name); i != npos) advise(i, hint);
    }

private:
    template <class>
    friend class basic_tensor_file;
    using parts = detail::file_parts<Source>;

    basic_tensor_file() noexcept = default;
    /// Returns false if memory runs out.
    bool take(parts&& taken) noexcept { return parts_.reserve(1) && parts_.push(std::move(taken)); }
    [[nodiscard]] const parts& at() const noexcept { return parts_[0]; }

    /// Reads only the header. Its size is compared with the limit and the file's size before memory
    /// is allocated.
    result<void> read_header(const read_options& options) noexcept {
        std::byte length[8];
        parts& to = parts_[0];
        const std::uint64_t file_bytes = to.source.size_bytes();
        if (file_bytes < sizeof length)
            return failure{
                .code = errc::header_too_short, .expected = sizeof length, .actual = file_bytes};
        if (auto done = to.source.read(0, length); !done) return done;
        const auto needed = safefuse::header::bytes_needed(length, options);
        if (!needed) return needed.error();
        if (*needed > file_bytes)
            return failure{
                .code = errc::header_past_end, .expected = *needed, .actual = file_bytes};
        if (!detail::fits_memory(*needed) ||
            !to.header_bytes.resize_unset(static_cast<std::size_t>(*needed)))
            return failure{.code = errc::out_of_memory, .expected = *needed};
        // The length is not read again, because the file may have changed since.
        for (std::size_t i = 0; i < sizeof length; ++i) to.header_bytes[i] = length[i];
        return to.source.read(sizeof length, to.header_bytes.view().subspan(sizeof length));
    }

    /// Explains a header that cannot be parsed: the file may be of another format.
    [[nodiscard]] SAFEFUSE_COLD failure explain(failure why) const noexcept {
        if (why.code == errc::out_of_memory || why.code == errc::io_error ||
            why.code == errc::file_changed)
            return about(why);
        std::byte start[detail::first_bytes_size];
        const std::uint64_t file_bytes = at().source.size_bytes();
        const std::size_t count =
            file_bytes < sizeof start ? static_cast<std::size_t>(file_bytes) : sizeof start;
        if (count == 0) {
            if (why.detail.empty()) why.detail = "the file is empty";
        } else if (at().source.read(0, {start, count})) {
            if (const std::string_view what = detail::told_by_first_bytes({start, count});
                !what.empty()) {
                why = failure{.code = errc::another_format, .detail = "it is "};
                why.detail.append(what);
            } else if (detail::all_zero({start, count})) {
                why.detail = "it begins with zeros: an unfinished download";
            }
        }
        return about(std::move(why));
    }
    [[nodiscard]] SAFEFUSE_COLD failure about(failure why,
                                              std::string_view tensor = {}) const noexcept {
        if (why.file.empty()) why.file = path();
        if (why.tensor.empty()) why.tensor = tensor;
        return why;
    }
    [[nodiscard]] failure absent(std::string_view name) const noexcept {
        return about({.code = errc::tensor_not_found}, name);
    }

    // one element, or none after a move; elements keep their address when the vector moves
    vector<parts> parts_;
};

/// A tensor file that is mapped: views cost nothing.
using tensor_file = basic_tensor_file<mapped_file>;
/// A tensor file that is read by offset.
using positional_tensor_file = basic_tensor_file<positional_file>;
/// A tensor file with any source, including the caller's own: one type for all sources. Make it
/// from an any_source, or from a file with another source.
using any_tensor_file = basic_tensor_file<any_source>;

static_assert(tensor_set<tensor_file> && tensor_set<positional_tensor_file> &&
              tensor_set<any_tensor_file>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
