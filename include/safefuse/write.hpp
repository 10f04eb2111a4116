// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: everything for writing: tensor files, checkpoints, and rewrites of whole checkpoints.
#ifndef SAFEFUSE_WRITE_HPP
#define SAFEFUSE_WRITE_HPP

#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/checkpoint_outline.hpp>
#include <safefuse/write/checkpoint_writer.hpp>
#include <safefuse/write/copy_checkpoint.hpp>
#include <safefuse/write/fingerprint.hpp>
#include <safefuse/write/repack.hpp>
#include <safefuse/write/replace.hpp>
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>
#include <safefuse/write/shard_split.hpp>
#include <safefuse/write/tensor_file_writer.hpp>
#include <safefuse/write/verify.hpp>

#endif
