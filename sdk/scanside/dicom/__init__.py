"""Images as DICOM: MR Image Storage instances, files, and sending them to an archive.

::

    exporter = DicomExporter(scan)
    for dataset in exporter.export(images):
        write_durably(file_path(dataset, folder), encoded(dataset))

`dataset` makes the instances from `patient`, `acquisition`, `provenance`, `voxels`, `order` and `uids`; `files`
writes them, `spool` keeps what is still to be sent, `store` sends it. Only `dataset`, its parts and `store` need the
extra ``dicom``.
"""
