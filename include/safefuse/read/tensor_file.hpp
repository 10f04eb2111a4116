// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a tensor file: its header, and access to the bytes of its tensors.
#ifndef SAFEFUSE_READ_TENSOR_FILE_HPP
#define SAFEFUSE_READ_TENSOR_FILE_HPP

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
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/slice.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A tensor file whose header is parsed and checked. Tensors are numbered in the order of their
/// bytes.
///   lifetime  views and names are valid until the file is destroyed; a move keeps them valid
template <class Source>
class basic_tensor_file {
public:
    static_assert(byte_source<Source>,
                  "safefuse: the source of a tensor file is not a byte_source");

    /// What find() returns if there is no such tensor.
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

    /// Makes a tensor file from an open source, such as memory_source. `name` replaces the path in
    /// messages.
    ///   fails   as header::parse and Source::read; out_of_memory; read_past_end (the source lends
    ///           fewer bytes than its size)
    static result<basic_tensor_file> from(Source source, std::string_view name,
                                          const read_options& options = {}) noexcept {
        basic_tensor_file made{std::move(source), name};
        if (made.name_.lacks_memory()) return failure{.code = errc::out_of_memory, .file = name};
        span<const std::byte> start = made.source_.bytes();
        if (start.empty()) {
            if (auto done = made.read_header(options); !done)
                return made.explain(std::move(done).error());
            start = made.header_bytes_.view();
        } else if (start.size() < made.source_.size_bytes()) {
            return made.about({.code = errc::read_past_end,
                               .detail = "the source lends fewer bytes than it says it has",
                               .expected = made.source_.size_bytes(),
                               .actual = start.size()});
        }
        auto parsed = safefuse::header::parse(start, made.source_.size_bytes(), options);
        if (!parsed) return made.explain(std::move(parsed).error());
        made.header_ = std::move(*parsed);
        return made;
    }

    /// Closes the file's handle if the source has one. The source opens it again when needed.
    void close_handle() noexcept {
        if constexpr (requires(Source& source) { source.close_handle(); }) source_.close_handle();
    }

    /// The path or name that it was made with.
    [[nodiscard]] std::string_view path() const& noexcept SAFEFUSE_LIFETIMEBOUND { return name_; }
    /// The source of the file's bytes.
    [[nodiscard]] const Source& source() const& noexcept SAFEFUSE_LIFETIMEBOUND { return source_; }
    /// The checked table of its tensors.
    [[nodiscard]] const safefuse::header& header() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return header_;
    }

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return header_.size(); }
    /// Tensor i, in the order of the bytes.
    [[nodiscard]] tensor_entry operator[](std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return header_[i];
    }
    /// The index of the tensor with this name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        return header_.find(name);
    }
    /// The offset of tensor i in bytes from the start of the file.
    [[nodiscard]] std::uint64_t offset_bytes(std::size_t i) const noexcept {
        return header_.header_bytes() + header_[i].begin;
    }

    /// A view of tensor i, without a copy.
    ///   fails   not_resident (the source is not in memory: use read()), read_past_end (the source
    ///           lends fewer bytes than when the file was opened)
    [[nodiscard]] result<tensor_view> view(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        const tensor_entry entry = header_[i];
        const span<const std::byte> bytes = source_.bytes();
        if (bytes.empty())
            return about({.code = errc::not_resident, .detail = "read() copies them"}, entry.name);
        const std::uint64_t first = offset_bytes(i);
        // never a view past the end, no matter what header and source say
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
    result<tensor_view> view(std::size_t) const&& = delete;
    result<tensor_view> find(std::string_view) const&& = delete;

    /// Copies tensor i.
    ///   fails   wrong_buffer_size (`out` must have the tensor's size; it is then unchanged), and
    ///           as Source::read
    result<void> read(std::size_t i, span<std::byte> out) const noexcept {
        const tensor_entry entry = header_[i];
        if (out.size() != entry.size_bytes())
            return about({.code = errc::wrong_buffer_size,
                          .expected = entry.size_bytes(),
                          .actual = out.size()},
                         entry.name);
        if (auto done = source_.read(offset_bytes(i), out); !done)
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

    /// The bytes of a slice of tensor i: its size for read_slice, and its runs for
    /// tensor_view::slice.
    ///   fails   as slice_runs::of
    [[nodiscard]] result<slice_runs> runs_of(std::size_t i,
                                             span<const axis_range> ranges) const noexcept {
        const tensor_entry entry = header_[i];
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

    /// Copies a slice of tensor i and reads no other bytes. Adjacent runs are read together.
    ///   fails   as slice_runs::of; wrong_buffer_size (`out` must have the slice's size; it is then
    ///           unchanged); as Source::read
    result<void> read_slice(std::size_t i, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        const tensor_entry entry = header_[i];
        const auto runs = runs_of(i, ranges);
        if (!runs) return runs.error();
        if (const auto bytes = source_.bytes(); !bytes.empty()) {
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
        const std::size_t run_bytes = static_cast<std::size_t>(runs->run_bytes());
        std::byte* to = out.data();
        auto done = runs->for_each_run([&](std::uint64_t offset) noexcept -> result<void> {
            auto read = source_.read(first + offset, {to, run_bytes});
            to += run_bytes;
            return read;
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
        source_.advise(offset_bytes(i), header_[i].size_bytes(), hint);
    }
    /// Tells the system how the bytes of the tensor with this name will be used. Does nothing if
    /// there is no such tensor.
    void advise(std::string_view name, advice hint) const noexcept {
        if (const std::size_t i = index_of(name); i != npos) advise(i, hint);
    }

private:
    basic_tensor_file(Source&& source, std::string_view name) noexcept
        : source_{std::move(source)}, name_{name} {}

    /// Reads only the header. Its size is compared with the limit and the file's size before memory
    /// is allocated.
    result<void> read_header(const read_options& options) noexcept {
        std::byte length[8];
        const std::uint64_t file_bytes = source_.size_bytes();
        if (file_bytes < sizeof length)
            return failure{
                .code = errc::header_too_short, .expected = sizeof length, .actual = file_bytes};
        if (auto done = source_.read(0, length); !done) return done;
        const auto needed = safefuse::header::bytes_needed(length, options);
        if (!needed) return needed.error();
        if (*needed > file_bytes)
            return failure{
                .code = errc::header_past_end, .expected = *needed, .actual = file_bytes};
        if (!detail::fits_memory(*needed) ||
            !header_bytes_.resize_unset(static_cast<std::size_t>(*needed)))
            return failure{.code = errc::out_of_memory, .expected = *needed};
        // The length is not read again: if the file changes meanwhile, it must not change the
        // length.
        for (std::size_t i = 0; i < sizeof length; ++i) header_bytes_[i] = length[i];
        return source_.read(sizeof length, header_bytes_.view().subspan(sizeof length));
    }

    /// Explains a header that cannot be parsed: the file may be of another format.
    [[nodiscard]] SAFEFUSE_COLD failure explain(failure why) const noexcept {
        if (why.code == errc::out_of_memory || why.code == errc::io_error ||
            why.code == errc::file_changed)
            return about(why);
        std::byte start[detail::first_bytes_size];
        const std::uint64_t file_bytes = source_.size_bytes();
        const std::size_t count =
            file_bytes < sizeof start ? static_cast<std::size_t>(file_bytes) : sizeof start;
        if (count == 0) {
            if (why.detail.empty()) why.detail = "the file is empty";
        } else if (source_.read(0, {start, count})) {
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
        if (why.file.empty()) why.file = name_;
        if (why.tensor.empty()) why.tensor = tensor;
        return why;
    }
    [[nodiscard]] failure absent(std::string_view name) const noexcept {
        return about({.code = errc::tensor_not_found}, name);
    }

    Source source_;
    text name_;
    vector<std::byte> header_bytes_;  // only if the source is not in memory
    safefuse::header header_;
};

/// A tensor file that is mapped: views cost nothing.
using tensor_file = basic_tensor_file<mapped_file>;
/// A tensor file that is read by offset.
using positional_tensor_file = basic_tensor_file<positional_file>;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
